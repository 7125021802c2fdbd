"""A Dense module: a linear layer and an activation over pooled embeddings, its weights in safetensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import safetensors
import safetensors.torch
from torch import Tensor

from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.protos.errors import CheckpointError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import Activation, DenseLayer

DenseWeights = Mapping[str, Tensor]
"""`linear.weight` [out, in], and as far as the layer has them `linear.bias` [out] and `residual.weight`."""
WEIGHTS_FILE = "model.safetensors"
_POOLED = "sentence_embedding"
TOKENS = "token_embeddings"
"""Name of the states of a text's tokens, which an encoder of several vectors projects."""
_DEFAULT_ACTIVATION = "torch.nn.modules.activation.Tanh"
_ACTIVATIONS: MappingProxyType[str, Activation] = MappingProxyType(
    {
        "Identity": "identity",
        "Tanh": "tanh",
        "ReLU": "relu",
        "GELU": "gelu",
        "SiLU": "silu",
        "Sigmoid": "sigmoid",
    }
)


def dense_layer(folder: Path, output: str = _POOLED, taken: str = _POOLED) -> DenseLayer:
    """Reads the config of a Dense module between states of those names. CheckpointError for what cannot be exported."""
    settings = Settings.read(folder / "config.json")
    settings.require("module_input_name", [taken], f"must be {taken} in its place of modules.json")
    named = settings.text("module_output_name") or taken
    if named != output:
        raise settings.error("module_output_name", named, f"must be {output} in its place of modules.json")
    sizes = [settings.count(name) for name in ("in_features", "out_features")]
    if None in sizes:
        raise CheckpointError(f"{settings.where} must say in_features and out_features")
    layer = DenseLayer(
        in_features=sizes[0] or 0,
        out_features=sizes[1] or 0,
        bias=settings.flag("bias", True),
        activation=_activation(settings),
        residual=settings.flag("use_residual", False),
    )
    settings.finish()
    return layer


def dense_weights(folder: Path, layer: DenseLayer) -> DenseWeights:
    """Reads the weights of a Dense module. Raises CheckpointError as `module_weights`."""
    return module_weights(folder, "Dense", _shapes(layer))


def module_weights(folder: Path, kind: str, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Tensor]:
    """Reads the tensors of a module in fp32, by name.

    Raises CheckpointError if the file is missing or damaged, lacks one, or has another tensor or shape.
    """
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{kind} module {str(folder)!r} has no {WEIGHTS_FILE}, and pickles are never loaded: load the model with "
            "sentence-transformers and save_pretrained it anew"
        )
    try:
        tensors = safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged: {reason_of(error)}") from error
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if stored != shapes:
        raise CheckpointError(f"{file} holds {stored}, its config.json asks for {shapes}")
    return {name: tensor.float() for name, tensor in tensors.items()}


def require_chained(layers: Sequence[tuple[Path, DenseLayer]], width: int) -> int:
    """Follows a width through Dense modules, each with its folder, and gives what comes out.

    Raises CheckpointError naming the module that takes another width than comes in.
    """
    for folder, layer in layers:
        width = require_fits(str(folder / "config.json"), layer, width)
    return width


def require_fits(where: str, layer: DenseLayer, width: int) -> int:
    """Gives the width behind a layer. Raises CheckpointError for one that takes another than comes in."""
    if layer.in_features != width:
        raise CheckpointError(
            f"{where}: in_features {layer.in_features} do not fit what comes in, which is {width} wide: modules.json "
            "names another model, pooling or order of modules than the layer was trained behind"
        )
    return layer.out_features


def _shapes(layer: DenseLayer) -> dict[str, tuple[int, ...]]:
    matrix = (layer.out_features, layer.in_features)
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": matrix}
    if layer.bias:
        shapes["linear.bias"] = (layer.out_features,)
    if layer.residual and layer.in_features != layer.out_features:
        shapes["residual.weight"] = matrix
    return shapes


def _activation(settings: Settings) -> Activation:
    stated = settings.text("activation_function") or _DEFAULT_ACTIVATION
    return settings.of_torch("activation_function", stated, _ACTIVATIONS)
