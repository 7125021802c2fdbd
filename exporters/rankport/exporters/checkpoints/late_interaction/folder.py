"""Folders of late interaction: of sentence-transformers' MultiVectorEncoder, of PyLate, and of Stanford's ColBERT.

The three say the same in other words. What would change a score and has no place in a bundle is refused by name.
"""

import string
from collections.abc import Sequence
from pathlib import Path

from rankport.exporters.checkpoints.config.heads import COLBERT, PROJECTION
from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.forms.fill import require_finite
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.late_interaction.form import (
    Expansion,
    LateForm,
    Similarity,
    metadata_file,
)
from rankport.exporters.checkpoints.sentence_transformers.dense import (
    TOKENS,
    DenseWeights,
    dense_layer,
    dense_weights,
)
from rankport.exporters.checkpoints.sentence_transformers.folder import (
    CONFIG_FILE,
    is_normalize,
    side_prompts,
)
from rankport.exporters.checkpoints.sentence_transformers.modules import (
    MODULES_FILE,
    StatedModule,
    stated_modules,
)
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.exporters.checkpoints.sentence_transformers.transformer import (
    require_cut_behind,
    token_settings,
)
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import DenseLayer

_NATIVE, _PYLATE = "MultiVectorEncoder", "ColBERT"
_MASK = "MultiVectorMask"
_PYLATE_QUERY_TOKENS, _PYLATE_ITEM_TOKENS = 32, 180
_PYLATE_KEYS = ("query_prefix", "document_prefix", "query_length", "document_length", "skiplist_words")
_PUNCTUATION = tuple(string.punctuation)


def is_late(path: Path) -> bool:
    """Tells a folder of late interaction. Raises CheckpointError for a file that cannot be read."""
    if not (path / MODULES_FILE).is_file():
        return _is_stanfords(path)
    settings = Settings.read(path / CONFIG_FILE)
    stated = settings.text("model_type")
    # PyLate said no type before sentence-transformers 5.
    return stated in (_NATIVE, _PYLATE) or (stated is None and any(map(settings.has, _PYLATE_KEYS)))


def late_form(path: Path) -> LateForm:
    """Reads a folder of late interaction. Raises CheckpointError for what cannot be exported."""
    modules = stated_modules(path)
    if modules is None:
        return _stanfords(path)
    settings = Settings.read(path / CONFIG_FILE)
    form = _native if settings.text("model_type") == _NATIVE else _pylates
    return form(path, modules, settings)


def _is_stanfords(path: Path) -> bool:
    file = path / "config.json"
    return file.is_file() and COLBERT in (read_json_object(file).get("architectures") or ())


def _native(path: Path, modules: Sequence[StatedModule], settings: Settings) -> LateForm:
    """Reads a folder that sentence-transformers saved."""
    transformer, *rest = _ordered(path, modules, ("Dense", _MASK, "Normalize", "Dropout"))
    own = token_settings(transformer.folder)
    settings.ignore("__version__", "requirements")
    query_prompt, item_prompt = side_prompts(settings)
    similarity = _similarity(settings, ("maxsim", "meanmaxsim"))
    settings.finish("remove it if it changes no score")
    masks = [Settings.read(module.folder / "config.json") for module in rest if module.kind == _MASK]
    skipped, tasks = _skipped(masks)
    expansion, query_tokens = _expansion(own.expansion, own.query_tokens)
    if expansion is not None and not masks:
        raise CheckpointError(
            f"{path / MODULES_FILE} has no {_MASK} module, without which the tokens that fill a query are not scored: "
            "add one, or set query_expansion to null"
        )
    return LateForm(
        where=str(own.file),
        query_prompt=query_prompt,
        item_prompt=item_prompt,
        inserted=False,
        query_tokens=query_tokens or own.tokens,
        item_tokens=own.item_tokens or own.tokens,
        expansion=expansion,
        skipped=skipped if "document" in tasks else (),
        skips_queries="query" in tasks,
        skips_unknown=False,
        dense=_dense(rest),
        normalize=any(is_normalize(module, TOKENS) for module in rest),
        similarity=similarity,
    )


def _pylates(path: Path, modules: Sequence[StatedModule], settings: Settings) -> LateForm:
    """Reads a folder that PyLate saved: lengths, marks and masks stand in one file, and vectors are normalized."""
    transformer, *rest = _ordered(path, modules, ("Dense",))
    own = token_settings(transformer.folder)  # whose length PyLate sets anew for each call
    if own.query_tokens or own.item_tokens or own.expansion:
        raise CheckpointError(
            f"{own.file} has query_length, document_length or query_expansion, which PyLate reads in {CONFIG_FILE}: "
            "take them out, or say model_type MultiVectorEncoder there"
        )
    settings.ignore("__version__", "requirements", "default_prompt_name")
    prompts = settings.value("prompts") or {}
    if any(prompts.values() if isinstance(prompts, dict) else [prompts]):
        raise settings.error(
            "prompts", prompts, "has texts, which PyLate puts before none but where told: clear them"
        )
    # What old ones were saved with, and PyLate never reads: of vectors of length 1 it is the same.
    similarity = _similarity(settings, ("MaxSim", "maxsim", "cosine", "dot"))
    query, item = settings.text("query_prefix"), settings.text("document_prefix")
    query_tokens = settings.count("query_length") or _PYLATE_QUERY_TOKENS
    item_tokens = settings.count("document_length") or _PYLATE_ITEM_TOKENS
    attended = settings.optional_flag("attend_to_expansion_tokens", False)
    expands = settings.optional_flag("do_query_expansion", True)
    skipped = _words(settings)
    settings.finish("remove it if it changes no score")
    return LateForm(
        where=settings.where,
        query_prompt="[Q] " if query is None else query,
        item_prompt="[D] " if item is None else item,
        inserted=True,
        query_tokens=query_tokens,
        item_tokens=item_tokens,
        expansion=Expansion(query_tokens, attended) if expands else None,
        skipped=_PUNCTUATION if skipped is None else skipped,
        skips_queries=False,
        skips_unknown=True,
        dense=_dense(rest),
        normalize=True,
        similarity=similarity,
    )


def _stanfords(path: Path) -> LateForm:
    """Reads a folder of Stanford's ColBERT: its projection lies among the tensors of the body."""
    require_cut_behind(path)
    settings = Settings.read(metadata_file(path))
    query_tokens = settings.count("query_maxlen") or 32
    similarity = settings.text("similarity") or "cosine"
    if similarity != "cosine":
        raise settings.error(
            "similarity", similarity, "is not supported: only cosine is, as MaxSim sums them"
        )
    if (interaction := settings.text("interaction") or "colbert") != "colbert":
        raise settings.error("interaction", interaction, "is not supported: only colbert is, which is MaxSim")
    masks = settings.flag("mask_punctuation", True)
    return LateForm(
        where=settings.where,
        query_prompt=settings.text("query_token_id") or "[unused0]",
        item_prompt=settings.text("doc_token_id") or "[unused1]",
        inserted=True,
        query_tokens=query_tokens,
        item_tokens=settings.count("doc_maxlen"),
        expansion=Expansion(query_tokens, settings.flag("attend_to_mask_tokens", False)),
        skipped=_PUNCTUATION if masks else (),
        skips_queries=False,
        skips_unknown=False,
        dense=(_projection(path),),
        normalize=True,
        similarity="maxsim",
    )


def _projection(path: Path) -> tuple[DenseLayer, DenseWeights]:
    tensors, name = CheckpointFolder.open(path).tensors, PROJECTION
    if name not in tensors:
        raise CheckpointError(
            f"checkpoint {str(path)!r} lacks tensor {name!r}, the projection of ColBERT: copy it again"
        )
    weight = tensors.read(name).float()
    require_finite(name, weight)
    out, into = weight.shape
    return DenseLayer(in_features=into, out_features=out, bias=False, activation="identity"), {name: weight}


def _ordered(path: Path, modules: Sequence[StatedModule], known: Sequence[str]) -> tuple[StatedModule, ...]:
    """Checks that a graph can have these modules in this order."""
    kinds = [module.kind for module in modules]
    file = path / MODULES_FILE
    for kind in kinds[1:]:
        if kind not in known:
            raise CheckpointError(
                f"{file} has a {kind} module, which the graph of an encoder of several vectors lacks: it would be "
                f"another model. Behind the Transformer there may be {', '.join(known)}"
            )
    last_dense = max((place for place, kind in enumerate(kinds) if kind == "Dense"), default=0)
    if kinds[0] != "Transformer" or "Normalize" in kinds[:last_dense] or kinds.count(_MASK) > 1:
        raise CheckpointError(
            f"{file} has the modules {', '.join(kinds)}: only Transformer, Dense layers, a {_MASK} and then Normalize "
            "can be exported"
        )
    return tuple(modules)


def _dense(modules: Sequence[StatedModule]) -> tuple[tuple[DenseLayer, DenseWeights], ...]:
    layers = [
        (module.folder, dense_layer(module.folder, TOKENS, TOKENS))
        for module in modules
        if module.kind == "Dense"
    ]
    return tuple((layer, dense_weights(folder, layer)) for folder, layer in layers)


def _similarity(settings: Settings, known: Sequence[str]) -> Similarity:
    stated = settings.text("similarity_fn_name") or known[0]
    if stated not in known:
        raise settings.error("similarity_fn_name", stated, f"is not supported: there is {', '.join(known)}")
    return "meanmaxsim" if stated == "meanmaxsim" else "maxsim"


def _skipped(masks: Sequence[Settings]) -> tuple[tuple[str, ...], Sequence[str]]:
    """Reads the words that a mask skips, and whose: documents' and queries'."""
    if not masks:
        return (), ()
    (settings,) = masks
    words, tasks = _words(settings) or (), settings.value("skiplist_tasks")
    tasks = [tasks] if isinstance(tasks, str) else ["document"] if tasks is None else tasks
    if not isinstance(tasks, list) or not set(tasks) <= {"document", "query"}:
        raise settings.error("skiplist_tasks", tasks, "must be a list of document and query")
    if "query" in tasks and "document" not in tasks:
        raise settings.error("skiplist_tasks", tasks, "skips words of queries alone, which is not supported")
    settings.finish("only skiplist_words and skiplist_tasks can be exported")
    return words, tasks


def _words(settings: Settings) -> tuple[str, ...] | None:
    words = settings.value("skiplist_words")
    if words is None:
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise settings.error("skiplist_words", words, "must be a list of words")
    return tuple(words)


def _expansion(stated: Settings | None, most: int | None) -> tuple[Expansion | None, int | None]:
    """Reads how a query is filled, and the longest one there may be."""
    if stated is None:
        return None, most
    strategy, length = stated.text("strategy"), stated.count("length")
    attended, token = stated.flag("attend", False), stated.text("token")
    stated.finish()
    if strategy not in ("fixed", "min") or length is None:
        raise stated.error(
            "strategy", strategy, f"of length {length} is none of fixed and min, with a length"
        )
    if strategy == "min" and most is None:
        raise stated.error(
            "strategy", strategy, "fills queries of no longest length: say query_length beside it"
        )
    if most is not None and most < length:
        raise stated.error("length", length, f"is above query_length, {most}: lower it")
    return Expansion(length, attended, token), length if strategy == "fixed" else most
