"""A Pooling module's config: which hidden states become an embedding."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rankport.exporters.checkpoints.forms.folder import read_json_object
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Pooling

_MODES: MappingProxyType[str, Pooling] = MappingProxyType(
    {
        "cls": "cls",
        "max": "max",
        "mean": "mean",
        "mean_sqrt_len_tokens": "mean-sqrt-len",
        "weightedmean": "weighted-mean",
        "lasttoken": "last-k",
    }
)
_FLAGS = MappingProxyType(  # of releases before 5.1, in the order in which several are joined
    {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
)


@dataclass(frozen=True, slots=True)
class PoolingSettings:
    """Poolings whose results are joined in order, and whether they see the prompt."""

    modes: tuple[Pooling, ...]  # at least one
    include_prompt: bool
    widths: tuple[tuple[str, int], ...]  # of the hidden states, by the names that state it
    where: str  # file that says so

    def require_width(self, width: int, layers: int) -> None:
        """Raises CheckpointError where neither states nor `layers`, which may be projected, have the stated width."""
        for name, stated in self.widths:
            if stated not in (width, layers):
                raise CheckpointError(
                    f"{self.where}: {name} is {stated}, and the hidden states have {width} values: is it the Pooling "
                    "of another model?"
                )


def pooling_settings(folder: Path) -> PoolingSettings:
    """Reads a Pooling module. Raises CheckpointError for a mode or setting that is unknown."""
    file = folder / "config.json"
    settings = Settings(str(file), read_json_object(file))
    # The transformer's width, in any case; sentence-transformers does not load a module without it.
    stated_widths = [
        (name, settings.count(name)) for name in ("word_embedding_dimension", "embedding_dimension")
    ]
    widths = tuple((name, width) for name, width in stated_widths if width is not None)
    if not widths:
        raise settings.error("embedding_dimension", None, "must be the width of the hidden states")
    flagged = [mode for name, mode in _FLAGS.items() if settings.flag(name, False)]
    stated = settings.value("pooling_mode")  # how newer releases write it
    names = flagged if stated is None else stated if isinstance(stated, list) else [stated]
    chosen = list(names or ["mean"])
    for name in chosen:
        if name not in _MODES:
            raise settings.error("pooling_mode", name, f"cannot be exported: there are {', '.join(_MODES)}")
    include_prompt = settings.flag("include_prompt", True)
    settings.finish()
    return PoolingSettings(tuple(_MODES[name] for name in chosen), include_prompt, widths, settings.where)
