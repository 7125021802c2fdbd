"""`EncoderFolder`: everything that a sentence-transformers folder says about the encoder in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoints.sentence_transformers.dense import dense_layer
from rankport.exporters.checkpoints.sentence_transformers.modules import (
    MODULES_FILE,
    StatedModule,
    stated_modules,
)
from rankport.exporters.checkpoints.sentence_transformers.pooling import PoolingSettings, pooling_settings
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.exporters.checkpoints.sentence_transformers.transformer import (
    TransformerSettings,
    transformer_settings,
)
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import DenseLayer

CONFIG_FILE = "config_sentence_transformers.json"
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_DOCUMENT = "document"
"""Prompt that `encode_document` takes; sentence-transformers adds it where there is none."""


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """The modules in order, each with its settings, and what `config_sentence_transformers.json` adds."""

    path: Path
    transformer: TransformerSettings
    pooling: PoolingSettings
    dense: tuple[tuple[Path, DenseLayer], ...]  # where the weights lie, and the layer
    normalize: bool  # after the last Dense
    prompts: Mapping[str, str]  # by name
    default_prompt_name: str | None
    truncate_dim: int | None  # the output's first dimensions, after normalization
    similarity: str | None  # between two embeddings, in the owner's code; no part of a bundle
    labels: tuple[str, ...] | None = None  # of the last Dense layer's outputs, where it is a classifier's

    def prompt(self, name: str | None) -> str:
        """Gives the text before each item: of that name, of the default one, or none. Raises InvalidRequest."""
        chosen = name or self.default_prompt_name
        if chosen is None:
            return ""
        if chosen not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise InvalidRequest(
                f"--prompt-name {chosen!r} is none of the prompts of {self.path / CONFIG_FILE}: there are {known}"
            )
        return self.prompts[chosen]

    def document_prompt_doubt(self, prompt_name: str | None) -> str | None:
        """Says that documents have another prompt than the one that nobody asked for; None where they have not."""
        stated, default = self.prompts.get(_DOCUMENT), self.prompt(None)
        if prompt_name is not None or (stated or "") == default:
            return None
        who, fix = f"has the prompt {_DOCUMENT!r}, {stated!r}", f"--prompt-name {_DOCUMENT} has the former"
        if stated is None:
            who = f"has no prompt {_DOCUMENT!r}"
            fix = f'for the former add "{_DOCUMENT}": "" to its prompts, and say --prompt-name {_DOCUMENT}'
        return (
            f"prompt: {CONFIG_FILE} {who}: encode_document of sentence-transformers puts {stated or ''!r} before a "
            f"text, encode, as the bundle, {default!r}: {fix}"
        )

    def notes(self, prompt_name: str | None) -> tuple[str, ...]:
        """Says what is left to whoever uses the embeddings."""
        notes = []
        unused = [name for name, text in self.prompts.items() if text]
        if unused and not self.prompt(prompt_name):
            notes.append(
                f"no prompt is put before an item: {CONFIG_FILE} has the prompts {', '.join(unused)} and no default; "
                "--prompt-name picks one"
            )
        if self.labels is not None:
            notes.append(
                f"{CONFIG_FILE} names labels, which embedding tokens do not have: --kind classifier has them"
            )
        if self.similarity is not None:
            notes.append(f"{CONFIG_FILE} compares embeddings by {self.similarity}")
        return tuple(notes)


def read_encoder_folder(path: Path) -> EncoderFolder | None:
    """Reads a folder; None if it is none of sentence-transformers. CheckpointError for what cannot be exported."""
    modules = stated_modules(path)
    if modules is None:
        return None
    settings = Settings.read(path / CONFIG_FILE)
    settings.require("model_type", ["SentenceTransformer"], "is no encoder of one embedding a text")
    transformer, pooling, *rest = _ordered(path, modules)
    settings.ignore("__version__", "requirements")
    prompts, default = stated_prompts(settings)
    folder = EncoderFolder(
        path=path,
        transformer=transformer_settings(transformer.folder),
        pooling=pooling_settings(pooling.folder),
        dense=tuple((module.folder, dense_layer(module.folder)) for module in rest if module.kind == "Dense"),
        normalize=any(is_normalize(module) for module in rest),
        prompts=prompts,
        default_prompt_name=default,
        truncate_dim=settings.count("truncate_dim"),
        similarity=_similarity(settings),
        labels=_labels(settings),
    )
    settings.finish()
    return folder


def stated_prompts(settings: Settings) -> tuple[Mapping[str, str], str | None]:
    """Takes the prompts by name, and the name of the default one. Raises CheckpointError for a name of none."""
    prompts, default = _prompts(settings), settings.text("default_prompt_name")
    if default is not None and default not in prompts:
        known = ", ".join(prompts) or "(there are none)"
        raise settings.error(
            "default_prompt_name", default, f"is none of the prompts {known}: set one, or null"
        )
    return prompts, default


def side_prompts(settings: Settings) -> tuple[str, str]:
    """Takes the texts that encode_query and encode_document put before theirs.

    Raises CheckpointError for a default that neither takes, and for a document's prompt by another name.
    """
    prompts, default = stated_prompts(settings)
    if default is not None:
        raise settings.error(
            "default_prompt_name", default, "is none of encode_query and encode_document: set null"
        )
    others = [name for name in ("passage", "corpus") if prompts.get(name)]
    if others and _DOCUMENT not in prompts:
        raise settings.error(
            "prompts", dict(prompts), f"has {others[0]} in the place of document: name it so"
        )
    return prompts.get("query", ""), prompts.get(_DOCUMENT, "")


_AFTER_POOLING = ("Dense", "Normalize", "Dropout")  # Dropout does nothing outside of training


def _ordered(path: Path, modules: tuple[StatedModule, ...]) -> tuple[StatedModule, ...]:
    """Checks that a graph can have these modules in this order: what is pooled once, and normalized last."""
    kinds = [module.kind for module in modules]
    file = path / MODULES_FILE
    for kind in kinds:
        if kind not in ("Transformer", "Pooling", *_AFTER_POOLING):
            raise CheckpointError(
                f"{file} has a {kind} module, which the encode graph lacks: it would be another model. Only "
                "Transformer, Pooling, Dense and Normalize can be exported: serve this one with "
                "sentence-transformers, or train one without"
            )
    expected = ["Transformer", "Pooling"]
    last_dense = max((place for place, kind in enumerate(kinds) if kind == "Dense"), default=0)
    normalized_early = "Normalize" in kinds[:last_dense]
    if kinds[:2] != expected or any(kinds.count(kind) > 1 for kind in expected) or normalized_early:
        raise CheckpointError(
            f"{file} has the modules {', '.join(kinds)}: only Transformer, Pooling, Dense layers and then Normalize, "
            "in this order, can be exported"
        )
    return modules


def is_normalize(module: StatedModule, of: str = "sentence_embedding") -> bool:
    """Tells a Normalize module. Raises CheckpointError for one of another value than what is pooled, or `of` says."""
    if module.kind != "Normalize":
        return False
    settings = Settings.read(module.folder / "config.json")
    for name in ("module_input_name", "module_output_name"):
        settings.require(name, [of], f"must be {of} in its place of modules.json")
    settings.finish()
    return True


def _similarity(settings: Settings) -> str | None:
    stated = settings.text("similarity_fn_name")
    if stated is not None and stated not in _SIMILARITIES:
        known = ", ".join(_SIMILARITIES)
        raise settings.error(
            "similarity_fn_name",
            stated,
            f"is none of {known}, and so sentence-transformers takes cosine: set one",
        )
    return stated


def _labels(settings: Settings) -> tuple[str, ...] | None:
    labels = settings.value("labels")
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(name, str) and name for name in labels):
        raise settings.error("labels", labels, "must be a list of names")
    if len(set(labels)) < len(labels):
        raise settings.error("labels", labels, "has a name twice")
    return tuple(labels)


def _prompts(settings: Settings) -> Mapping[str, str]:
    prompts = settings.value("prompts") or {}
    if not isinstance(prompts, dict):
        raise settings.error("prompts", prompts, "must be an object of texts")
    for name, text in prompts.items():
        if text is not None and not isinstance(text, str):
            raise settings.error(f"prompts.{name}", text, "must be a text")
    return {name: text for name, text in prompts.items() if text is not None}
