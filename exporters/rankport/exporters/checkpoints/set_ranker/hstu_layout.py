"""The published layout of HSTU models, `torch_module/model.{rank}.pth`, to a checkpoint of a ranker of sets.

Tensors alone are read (`weights_only`), and tables of ids from dumps beside them (`table_dumps`). The layers have names
of their own and are found by them; what is around them (features in, tables, heads) has no fixed names and is named by
whoever converts.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal
from zipfile import is_zipfile

import torch
from torch import Tensor

from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.exporters.checkpoints.set_ranker.table_dumps import TableDump, rows_of, sorted_keys, table_dumps
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.sections.sets import IdTable

Order = Literal["kinds", "heads"]
"""Rows of UVQK: all of U, then V, Q, K; or U, V, Q, K of each head in turn."""

_LAYER: Final = re.compile(r"(?:^|.*\.)_attention_layers\.(\d+)\.(.+)$")
_UNSTATED: Final = {
    "attention_scaled": "true if the model divides scores by sqrt(head_dim), as the code base of this layout does, "
    "false if not",
    "attention_length": "the number that the model divides attention by, its scaling_seqlen or else its longest "
    "sequence; null only if that is the number of rows seen",
}
"""Fields of a config that no stored tensor tells."""
_TABLE: Final = re.compile(r"tables\.(.+)\.weight")
_NORMS: Final = {
    "_input_layernorm_weight": "norm.weight",
    "_input_layernorm_bias": "norm.bias",
    "_output_layernorm_weight": "attended_norm.weight",
    "_output_layernorm_bias": "attended_norm.bias",
    "_output_ln_dropout_mul.weight": "attended_norm.weight",
    "_output_ln_dropout_mul.bias": "attended_norm.bias",
    "_linear_proj.bias": "out.bias",
}


def convert_hstu(
    folder: Path,
    config: SetRankerConfig,
    names: Mapping[str, str],
    order: Order,
    *,
    scratch: Path | None = None,
) -> SetRankerModel:
    """Makes the model of a folder; `names` are stored names of the tensors outside of the layers, by ours.

    A table (`tables.NAME.weight`) may be named after a dump; its rows are laid out in `scratch`, see `rows_of`.

    Raises CheckpointError for a config that leaves open what no tensor tells, a file that needs code, ranks that
    differ, and a tensor or dump that is missing, left over or of another shape; the message names it.
    """
    _require_stated(config)
    stored, dumps = _stored(folder), table_dumps(folder)
    with torch.device("meta"):  # a table may be larger than the memory
        model = SetRankerModel(config)
    wanted = model.state_dict()
    placed: dict[str, Tensor] = {}
    unplaced = set(dumps.tables)
    for ours, theirs in names.items():
        table = _TABLE.fullmatch(ours)
        dump = dumps.named(theirs) if table and table[1] in config.sets.tables else None
        if table is None or dump is None or theirs in stored:
            placed[ours] = _taken(stored, theirs)
        else:
            placed |= _dumped(dump, table[1], config.sets.tables[table[1]], scratch)
            unplaced.discard(dump.name)
    if unplaced:
        raise CheckpointError(
            f"the dump of table {min(unplaced)!r} has no place: name it, or the model would run without it"
        )
    for theirs in list(stored):
        match = _LAYER.match(theirs)
        if match is not None:
            ours, value = _layer_tensor(match[2], stored.pop(theirs), config, order, theirs)
            placed[f"blocks.{match[1]}.{ours}"] = value
    for index, name in enumerate(config.blocks):
        if name == "hstu":
            placed |= _unstored(f"blocks.{index}.", placed, config.hidden_size)
    _check(placed, wanted, stored)
    floats = {name: value.float() if value.is_floating_point() else value for name, value in placed.items()}
    model.load_state_dict(floats, assign=True)
    return model.eval()


def _require_stated(config: SetRankerConfig) -> None:
    for field, value in _UNSTATED.items():
        if "hstu" in config.blocks and field not in config.model_fields_set:
            raise CheckpointError(f"{field}: is missing in the config, and no tensor tells it: give {value}")


def _unstored(block: str, placed: Mapping[str, Tensor], hidden: int) -> dict[str, Tensor]:
    """Makes what the layout does not store of a layer: biases that it has none of, and norms that were not learned."""
    values = {f"{block}out.bias": torch.zeros(hidden), f"{block}uvqk.bias": torch.zeros(4 * hidden)}
    for norm in (f"{block}norm", f"{block}attended_norm"):
        if not {f"{norm}.weight", f"{norm}.bias"} & placed.keys():
            values |= {f"{norm}.weight": torch.ones(hidden), f"{norm}.bias": torch.zeros(hidden)}
    return {name: value for name, value in values.items() if name not in placed}


def _dumped(dump: TableDump, table: str, policy: IdTable, scratch: Path | None) -> dict[str, Tensor]:
    """Reads the rows of a table, and the keys of one that is looked up by them."""
    tensors = {f"tables.{table}.weight": rows_of(dump, table, policy, scratch)}
    if policy.lookup == "keys":
        tensors[f"ids.{table}.keys"] = torch.from_numpy(sorted_keys(dump, table, policy))
        tensors[f"ids.{table}.rows"] = torch.arange(policy.rows)
    return tensors


def _stored(folder: Path) -> dict[str, Tensor]:
    files = sorted((folder / "torch_module").glob("model.*.pth"))
    if not files:
        raise CheckpointError(f"{folder / 'torch_module'} has no file model.RANK.pth")
    first = _state(files[0])
    for file in files[1:]:
        _require_replica(first, _state(file), file, files[0])
    return first


def _state(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except Exception as error:  # of pickle, whose names are not imported here
        raise CheckpointError(
            f"{file} needs code to be read, which is never run, or is damaged: save its state_dict alone "
            f"({str(error)[:120]!r})"
        ) from error
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if not _is_empty_extra(str(name), value)}
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file} has no model_state_dict of tensors: save one")
    return dict(state)


def _is_empty_extra(name: str, value: object) -> bool:
    """Tells the extra state that linear layers of Transformer Engine store, where there is nothing in it."""
    empty = value is None or (isinstance(value, Tensor) and not value.numel())
    return empty and name.endswith("._extra_state")


def _require_replica(first: Mapping[str, Tensor], other: Mapping[str, Tensor], file: Path, of: Path) -> None:
    """Checks that a rank has what the first one has: of parts of tensors nothing says how they are joined."""
    for name in sorted(first.keys() | other.keys()):
        one, same = first.get(name), other.get(name)
        if one is None or same is None or one.dtype != same.dtype or not torch.equal(one, same):
            raise CheckpointError(
                f"{file}: tensor {name!r} is not that of {of.name}: the model is split over ranks; save it whole"
            )


def _taken(stored: dict[str, Tensor], name: str) -> Tensor:
    if name not in stored:
        raise CheckpointError(f"there is no tensor {name!r}: there are {', '.join(sorted(stored)[:8])}, …")
    return stored.pop(name)


def _layer_tensor(
    name: str, value: Tensor, config: SetRankerConfig, order: Order, stored: str
) -> tuple[str, Tensor]:
    """Gives our name of a layer's tensor, and the tensor as we have it."""
    match name:
        case "_linear_uvqk_weight":  # of the fused operator: [in, out], kinds one after the other
            return "uvqk.weight", value.T
        case "_linear_uvqk_bias":
            return "uvqk.bias", value
        case "_linear_uvqk.weight" | "_linear_uvqk.bias":
            return name.replace("_linear_uvqk", "uvqk"), _by_kind(value, config, order)
        case "_linear_proj_weight":
            return "out.weight", value.T
        case "_linear_proj.weight":
            return "out.weight", value
        case _ if name in _NORMS:
            return _NORMS[name], value
    raise CheckpointError(
        f"tensor {stored!r} is of no part of HSTU that is known here: the model would run without it"
    )


def _by_kind(value: Tensor, config: SetRankerConfig, order: Order) -> Tensor:
    """Puts rows [4 x hidden, ...] in the order of kinds."""
    if order == "kinds":
        return value
    rows = value.unflatten(0, (config.attention_heads, 4, config.head_dim))  # type: ignore[no-untyped-call]
    kinds: Tensor = rows.transpose(0, 1).flatten(0, 2)
    return kinds


def _check(placed: Mapping[str, Tensor], wanted: Mapping[str, Tensor], left: Mapping[str, Tensor]) -> None:
    if left:
        raise CheckpointError(
            f"tensor {min(left)!r} has no place: name it, or the model would run without it"
        )
    for name, value in wanted.items():
        if name not in placed:
            raise CheckpointError(
                f"nothing is stored for {name!r} {list(value.shape)}: name the tensor that it is"
            )
        if placed[name].shape != value.shape:
            raise CheckpointError(
                f"what is stored for {name!r} has shape {list(placed[name].shape)}, the config says {list(value.shape)}"
            )
    unknown = sorted(placed.keys() - wanted.keys())
    if unknown:
        raise CheckpointError(f"{unknown[0]!r} is no tensor of the config's model")
