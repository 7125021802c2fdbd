"""`audit_membership`: the order of the steps of a membership audit."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Side as TowerSide
from rankport.protos.wording import counted
from rankport.runtime.config import Device, engine_config
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.table import load_encoder
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.options import from_keywords, refuse_unknown
from rankport.sdk.membership.config import MembershipConfig, UserColumns
from rankport.sdk.membership.encoding import encode_texts
from rankport.sdk.membership.features import References
from rankport.sdk.membership.measure import Audited, measure
from rankport.sdk.membership.report import MembershipReport, Subject
from rankport.sdk.membership.samples import (
    Samples,
    StrPath,
    check_apart,
    chosen,
    of_arrays,
    read_embeddings,
    read_texts,
)
from rankport.sdk.offline import of_side

Arrays = tuple[ArrayLike, ArrayLike]
"""Users [samples] and their embeddings [samples, dim]."""

Tell = Callable[[str], None]

_NO_COLUMNS = UserColumns()


def audit_membership(
    encoder: StrPath | ItemEncoder | Towers | None,
    members: StrPath | Arrays,
    non_members: StrPath | Arrays,
    *,
    strangers: StrPath | Arrays | None = None,
    device: Device = "cpu",
    device_id: int = 0,
    side: TowerSide | None = None,
    on_progress: Tell = lambda _: None,
    **options: Any,
) -> MembershipReport:
    """Measures how well an attacker tells users whose texts an encoder was trained on from others.

    >>> audit_membership("encoder.bundle", "members.csv", "others.csv", max_auc=0.6).passed

    `members` and `non_members` are files of users and texts, split by user; the texts need not be those trained on.
    `strangers`, a third, has texts that distances are measured to; without it they are drawn from the other two.
    Without an encoder the three are embeddings: .npz files with `users` and `embeddings`, or those two arrays.
    `options` are those of `rankport audit membership`: fields of `UserColumns` and `MembershipConfig`.

    Raises:
        InvalidRequest: an option, column or row that does not fit, a user on two sides, or too few users.
        NotFound: no such file.
        BundleError, BackendError: the encoder failed.
    """
    columns, config = from_keywords(UserColumns, options), from_keywords(MembershipConfig, options)
    refuse_unknown("audit_membership", options, UserColumns, MembershipConfig)
    _refuse_unused(encoder, columns, device, device_id, side)
    random = np.random.default_rng(config.seed)
    sides = _Sides.read(encoder is None, columns, members, non_members, strangers).chosen(config, random)
    audited = Audited(sides.members, sides.non_members, config)
    if encoder is None:
        return measure(audited, _references(sides, config, random), random, on_progress)
    with ExitStack() as opened:
        source: Encoder
        if isinstance(encoder, ItemEncoder | Towers):
            source = of_side(encoder, side)
        else:
            engine = engine_config(device, device_ids=(device_id,))
            source = of_side(opened.enter_context(load_encoder(encoder, engine)), side)
        about = source.describe()
        subject = Subject(about.name, about.version, source.fingerprint, side)
        encoded, truncated = sides.encoded(source, on_progress)
    audited = Audited(encoded.members, encoded.non_members, config, subject, truncated)
    return measure(audited, _references(encoded, config, random), random, on_progress)


def _refuse_unused(
    encoder: StrPath | ItemEncoder | Towers | None,
    columns: UserColumns,
    device: Device,
    device_id: int,
    side: TowerSide | None,
) -> None:
    """Raises `InvalidRequest` for what says how texts are read or where they are encoded, and neither is done."""
    of_device = {"device": (device, "cpu"), "device_id": (device_id, 0)}
    if encoder is None:
        asked = {name: (value, getattr(_NO_COLUMNS, name)) for name, value in asdict(columns).items()}
        asked |= {**of_device, "side": (side, None)}
        why = "without an encoder (--bundle) the files are embeddings"
    elif isinstance(encoder, ItemEncoder | Towers):
        asked, why = of_device, "the encoder is loaded already"
    else:
        return
    for name, (value, default) in asked.items():
        if value != default:
            raise InvalidRequest(f"{name} is {value!r}: {why}; leave it out")


@dataclass(frozen=True, slots=True)
class _Sides:
    members: Samples
    non_members: Samples
    strangers: Samples | None

    @classmethod
    def read(
        cls,
        embedded: bool,
        columns: UserColumns,
        members: StrPath | Arrays,
        non_members: StrPath | Arrays,
        strangers: StrPath | Arrays | None,
    ) -> "_Sides":
        def read(given: StrPath | Arrays, name: str) -> Samples:
            if isinstance(given, tuple):
                if not embedded:
                    raise InvalidRequest(f"{name} are arrays: leave the encoder out, or give files of texts")
                return of_arrays(name, *given)
            return read_embeddings(given) if embedded else read_texts(given, columns)

        sides = cls(
            read(members, "members"),
            read(non_members, "non_members"),
            None if strangers is None else read(strangers, "strangers"),
        )
        check_apart(sides.members, sides.non_members)
        if sides.strangers is not None:
            check_apart(sides.members, sides.strangers, "a member and a stranger")
            check_apart(sides.non_members, sides.strangers, "a non-member and a stranger")
        return sides

    def chosen(self, config: MembershipConfig, random: np.random.Generator) -> "_Sides":
        """Draws from users with many texts, and from many strangers. Each fold gets users of both sides."""
        members, others = (chosen(side, config, random) for side in (self.members, self.non_members))
        for side in (members, others):
            if config.folds > len(side.users):
                raise InvalidRequest(
                    f"folds is {config.folds}, and {side.source} has {counted(len(side.users), 'user')}: "
                    "a fold needs one of each side"
                )
        strangers = None if self.strangers is None else _drawn(self.strangers, config, random)
        return _Sides(members, others, strangers)

    def encoded(self, encoder: Encoder, on_progress: Tell) -> tuple["_Sides", int]:
        """Encodes all texts together; gives the number of those that were cut too."""
        sides = [
            side
            for side in (self.members, self.non_members, self.strangers)
            if side and side.texts is not None
        ]
        texts = [text for side in sides for text in side.texts or ()]
        found = encode_texts(encoder, texts, on_progress)
        parts = np.split(found.rows, np.cumsum([len(side.owners) for side in sides])[:-1])
        done = [replace(side, rows=part) for side, part in zip(sides, parts, strict=True)]
        return _Sides(done[0], done[1], done[2] if len(done) > 2 else None), found.truncated


def _drawn(samples: Samples, config: MembershipConfig, random: np.random.Generator) -> Samples:
    """Draws as many samples as references are asked for, whoever's they are."""
    count = min(len(samples.owners), config.references)
    if not count:
        raise InvalidRequest(f"{samples.source} has no rows: give texts of strangers, or leave it out")
    places = random.choice(len(samples.owners), count, replace=False)
    return replace(
        samples,
        owners=samples.owners[places],
        texts=None if samples.texts is None else tuple(samples.texts[place] for place in places.tolist()),
        rows=None if samples.rows is None else samples.rows[places],
    )


def _references(sides: _Sides, config: MembershipConfig, random: np.random.Generator) -> References:
    """Takes the strangers, or draws as many samples of either side."""
    assert sides.members.rows is not None
    assert sides.non_members.rows is not None
    if sides.strangers is not None:
        assert sides.strangers.rows is not None
        return References(sides.strangers.rows, np.full(len(sides.strangers.rows), -1))
    count = min(config.references // 2, len(sides.members.rows), len(sides.non_members.rows))
    ours, theirs = (
        random.choice(len(side.owners), count, replace=False) for side in (sides.members, sides.non_members)
    )
    return References(
        np.concatenate([sides.members.rows[ours], sides.non_members.rows[theirs]]),
        np.concatenate(
            [sides.members.owners[ours], sides.non_members.owners[theirs] + len(sides.members.users)]
        ),
    )
