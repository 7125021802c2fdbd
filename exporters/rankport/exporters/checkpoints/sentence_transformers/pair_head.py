"""Head of a CrossEncoder's folder that pools: the modules behind its transformer, which end in the scores of a pair.

ettin-reranker is published so: Pooling, Dense, LayerNorm, Dense. Owns what such a folder must be, and the modules.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from rankport.exporters.checkpoints.sentence_transformers.dense import (
    dense_layer,
    dense_weights,
    module_weights,
    require_chained,
)
from rankport.exporters.checkpoints.sentence_transformers.dense_module import DenseModule
from rankport.exporters.checkpoints.sentence_transformers.folder import CONFIG_FILE, is_normalize
from rankport.exporters.checkpoints.sentence_transformers.modules import (
    MODULES_FILE,
    StatedModule,
    stated_modules,
    transformer_folder,
)
from rankport.exporters.checkpoints.sentence_transformers.pooling import PoolingSettings, pooling_settings
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.exporters.checkpoints.sentence_transformers.transformer import pair_settings
from rankport.protos.errors import CheckpointError

_SCORES = "scores"
_BETWEEN = ("Dense", "LayerNorm", "Normalize", "Dropout")  # Dropout does nothing outside of training


def scores_pairs(path: Path) -> bool:
    """Tells a folder whose pooled states end in scores of pairs: a CrossEncoder's, with a Pooling module."""
    modules = stated_modules(path) or ()
    pools = any(module.kind == "Pooling" for module in modules)
    return pools and Settings.read(path / CONFIG_FILE).text("model_type") == "CrossEncoder"


def pair_outputs(path: Path) -> int:
    """Counts the scores that such a folder gives of a pair. Raises CheckpointError for what cannot be exported."""
    return dense_layer(_ordered(path)[-1].folder, _SCORES).out_features


def pair_head(path: Path, width: int, layers: int) -> tuple[PoolingSettings, nn.Sequential]:
    """Reads how states are pooled, and makes the modules behind them: [..., pooled] -> [..., scores].

    `width` is that of the states, `layers` that before a projection.

    Raises CheckpointError for what cannot be exported.
    """
    _check_transformer(path)
    _, pooling, *rest = _ordered(path)
    settings = pooling_settings(pooling.folder)
    settings.require_width(width, layers)
    return settings, _head(rest, width * len(settings.modes))


def _head(modules: Sequence[StatedModule], width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for module in modules:
        if module.kind == "Dense":
            layer = dense_layer(module.folder, _SCORES if module is modules[-1] else "sentence_embedding")
            width = require_chained([(module.folder, layer)], width)
            layers.append(DenseModule(layer, dense_weights(module.folder, layer)))
        elif module.kind == "LayerNorm":
            layers.append(_norm(module.folder, width))
        elif is_normalize(module):
            layers.append(_Normalize())
    return nn.Sequential(*layers)


def _norm(folder: Path, width: int) -> nn.LayerNorm:
    settings = Settings.read(folder / "config.json")
    stated = settings.count("dimension")
    settings.finish("remove it if it changes no score")
    if stated != width:
        raise settings.error("dimension", stated, f"does not fit what comes in, which is {width} wide")
    weights = module_weights(folder, "LayerNorm", {"norm.weight": (width,), "norm.bias": (width,)})
    norm = nn.LayerNorm(width)
    norm.load_state_dict({name.removeprefix("norm."): tensor for name, tensor in weights.items()})
    return norm.requires_grad_(False)


class _Normalize(nn.Module):
    """x / max(|x|, 1e-12)."""

    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.normalize(states, dim=-1, eps=1e-12)


def _ordered(path: Path) -> tuple[StatedModule, ...]:
    """Checks that a graph can have these modules in this order: what is pooled once, and ends in a Dense layer."""
    modules = stated_modules(path) or ()
    kinds = [module.kind for module in modules]
    behind = kinds[2:]
    if (
        kinds[:2] != ["Transformer", "Pooling"]
        or not behind
        or behind[-1] != "Dense"
        or {*behind} - {*_BETWEEN}
    ):
        raise CheckpointError(
            f"{path / MODULES_FILE} has the modules {', '.join(kinds)}: of a CrossEncoder that pools only Transformer, "
            f"Pooling, then {', '.join(_BETWEEN)}, and a Dense layer last can be exported: serve this one with "
            "sentence-transformers"
        )
    return modules


def _check_transformer(path: Path) -> None:
    settings = pair_settings(transformer_folder(path))
    for name, value in (
        ("transformer_task", "feature-extraction"),
        ("module_output_name", "token_embeddings"),
    ):
        settings.require(name, [value], f"must be {value}: a Pooling module follows")
