"""Folders of sentence-transformers' SparseEncoder, and plain masked LMs, which it reads as SPLADE.

What would change a weight and has no place in a bundle is refused by name.
"""

from collections.abc import Sequence
from pathlib import Path

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.sentence_transformers.folder import CONFIG_FILE, side_prompts
from rankport.exporters.checkpoints.sentence_transformers.modules import (
    MODULES_FILE,
    ROUTER_FILE,
    StatedModule,
    pools_logits,
    stated_modules,
    stated_routes,
)
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.exporters.checkpoints.sentence_transformers.transformer import (
    own_limit,
    require_cut_behind,
    token_settings,
)
from rankport.exporters.checkpoints.sparse.form import Activation, SparseForm, SparseSimilarity, TokenPooling
from rankport.protos.errors import CheckpointError

_STATIC = "SparseStaticEmbedding"
_POOLING = "SpladePooling"


def is_sparse(path: Path) -> bool:
    """Tells a folder of a sparse encoder by its modules or its own word. CheckpointError for what cannot be read."""
    modules = stated_modules(path)
    if modules is None:
        return False
    if pools_logits(path):
        return True
    return Settings.read(path / CONFIG_FILE).text("model_type") == "SparseEncoder"


def is_masked_lm(path: Path) -> bool:
    """Tells a model of transformers that says a token for each masked one, in a folder that says no more."""
    file = path / "config.json"
    if stated_modules(path) is not None or not file.is_file():
        return False
    names = read_json_object(file).get("architectures") or ["?"]
    return isinstance(names, list) and str(names[0]).endswith("ForMaskedLM")


def sparse_form(path: Path) -> SparseForm:
    """Reads a folder of a sparse encoder. Raises CheckpointError for what cannot be exported."""
    modules = stated_modules(path)
    if modules is None:
        require_cut_behind(path)
        most = own_limit(path)
        return SparseForm(str(path / "config.json"), "", "", most, most)
    static, items = _sides(path, modules)
    transformer, pooling = _ordered(path, items)
    settings = Settings.read(path / CONFIG_FILE)
    settings.require("model_type", ["SparseEncoder"], "is no encoder of weights of a vocabulary")
    settings.ignore("__version__", "requirements")
    query_prompt, item_prompt = side_prompts(settings)
    most_active = settings.count("max_active_dims")
    similarity = _similarity(settings)
    settings.finish("remove it if it changes no score")
    own = token_settings(transformer.folder, "logits", may_say_nothing=transformer.kind == "MLMTransformer")
    if own.expansion is not None:
        raise own.expansion.error(
            "length", own.expansion.value("length"), "fills queries of late interaction"
        )
    named = Settings.read(pooling.folder / "config.json")
    how, activation, width = _pooled(named)
    named.finish("only pooling_strategy and activation_function can be exported")
    return SparseForm(
        where=str(own.file),
        query_prompt=query_prompt,
        item_prompt=item_prompt,
        query_tokens=(own.query_tokens or own.tokens) if static is None else own_limit(static),
        item_tokens=own.item_tokens or own.tokens,
        pooling=how,
        activation=activation,
        stated_width=width,
        most_active=most_active,
        similarity=similarity,
        static=static,
    )


def _sides(path: Path, modules: Sequence[StatedModule]) -> tuple[Path | None, Sequence[StatedModule]]:
    """Finds the folder of a query's weights, where queries have their own, and the modules that read an item."""
    if modules[0].kind != "Router":
        return None, modules
    file = path / ROUTER_FILE
    if len(modules) > 1:
        raise CheckpointError(
            f"{path / MODULES_FILE} has a {modules[1].kind} module behind a Router: only a Router alone can be exported"
        )
    routes = stated_routes(path)
    if set(routes) != {"query", "document"}:
        raise CheckpointError(
            f"{file}: structure has the routes {', '.join(routes)}: only query and document can be exported"
        )
    asked = routes["query"]
    if [module.kind for module in asked] != [_STATIC]:
        named = ", ".join(module.kind for module in asked)
        raise CheckpointError(
            f"{file}: queries are read by {named}: only one {_STATIC} of weights by token, or the modules of documents "
            "in the place of a Router, can be exported"
        )
    settings = Settings.read(asked[0].folder / "config.json")
    settings.ignore("frozen")
    settings.require(
        "path", (), "names weights of another place: save the model anew, which writes them here"
    )
    settings.finish()
    return asked[0].folder, routes["document"]


def _ordered(path: Path, modules: Sequence[StatedModule]) -> tuple[StatedModule, StatedModule]:
    kinds = [module.kind for module in modules]
    if len(kinds) != 2 or kinds[0] not in ("Transformer", "MLMTransformer") or kinds[1] != _POOLING:
        raise CheckpointError(
            f"{path / MODULES_FILE} reads texts by {', '.join(kinds)}: of sparse encoders only a masked LM's "
            f"Transformer and {_POOLING}, in this order, can be exported: serve this one with sentence-transformers"
        )
    return modules[0], modules[1]


def _pooled(settings: Settings) -> tuple[TokenPooling, Activation, int | None]:
    pooling, activation = settings.text("pooling_strategy"), settings.text("activation_function")
    widths = [settings.count(name) for name in ("embedding_dimension", "word_embedding_dimension")]
    if pooling not in (None, "max", "sum"):
        raise settings.error("pooling_strategy", pooling, "is none of max and sum")
    if activation not in (None, "relu", "log1p_relu"):
        raise settings.error("activation_function", activation, "is none of relu and log1p_relu")
    return (
        "sum" if pooling == "sum" else "max",
        "log1p_relu" if activation == "log1p_relu" else "relu",
        next((width for width in widths if width is not None), None),
    )


def _similarity(settings: Settings) -> SparseSimilarity:
    stated = settings.text("similarity_fn_name")
    if stated not in (None, "dot", "cosine"):
        raise settings.error("similarity_fn_name", stated, "is not supported: there are dot and cosine")
    return "cosine" if stated == "cosine" else "dot"
