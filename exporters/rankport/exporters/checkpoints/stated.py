"""The word of a checkpoint folder on what it is, before any weight is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from rankport.exporters.checkpoints.config.heads import head_name
from rankport.exporters.checkpoints.forms.adapters.config import ADAPTER_CONFIG, base_of, is_adapter
from rankport.exporters.checkpoints.forms.adapters.head import with_adapters_head
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head
from rankport.exporters.checkpoints.forms.onnx_file import OnnxTensors
from rankport.exporters.checkpoints.forms.onnx_model import stated_head
from rankport.exporters.checkpoints.late_interaction.folder import is_late
from rankport.exporters.checkpoints.list_ranker import config as list_ranker
from rankport.exporters.checkpoints.list_ranker import jina
from rankport.exporters.checkpoints.sentence_transformers.folder import CONFIG_FILE
from rankport.exporters.checkpoints.sentence_transformers.modules import (
    StatedModule,
    stated_modules,
    transformer_folder,
)
from rankport.exporters.checkpoints.sentence_transformers.pair_head import pair_outputs, scores_pairs
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.exporters.checkpoints.set_ranker import config as set_ranker
from rankport.exporters.checkpoints.sparse.folder import is_sparse
from rankport.exporters.checkpoints.two_tower import config as two_tower
from rankport.protos.errors import CheckpointError

_PAIR_HEAD = "scores"


@dataclass(frozen=True, slots=True)
class StatedModel:
    """The class of a checkpoint, and whether its folder is an encoder of sentence-transformers."""

    path: Path
    architecture: str  # of an adapter: its base's
    head: Head  # that the class ends in
    makes_embeddings: bool  # a folder of sentence-transformers that pools
    base: Path | None = None  # of an adapter, where it is not the one that its config names
    encoder_head: str | None = None  # name, as it is stored, of a head over states that saw the whole text
    outputs: int = 0  # of a classification head, as the config counts them
    reads_both_ways: bool = False  # a decoder, by the word of its config
    has_class_labels: bool = (
        False  # what is pooled ends in labels that config_sentence_transformers.json names
    )

    @property
    def tokenizer_file(self) -> Path | None:
        """The tokenizer.json of the folder, of an adapter without one that of its base."""
        own, inner = tokenizer_of_folder(self.path), transformer_folder(self.path)
        if own is not None or not is_adapter(inner):
            return own
        return tokenizer_of_folder(base_of(inner, self.base))

    @classmethod
    def read(cls, path: Path, base: Path | None = None) -> "StatedModel":
        """Reads a folder's config, of an adapter that of its base. Raises as `load_checkpoint`."""
        inner = transformer_folder(path)
        folder = base_of(inner, base) if is_adapter(inner) else inner
        stored = CheckpointFolder.open(transformer_folder(folder))
        if is_adapter(inner):
            stored = with_adapters_head(stored, inner)
        architecture = stored.architecture
        if is_late(path) or is_sparse(path):
            return cls(path, architecture, "towers", False, base)
        if scores_pairs(path):
            return cls(path, architecture, "classification_head", False, base, _PAIR_HEAD, pair_outputs(path))
        return cls(
            path,
            architecture,
            stored_head(stored),
            makes_embeddings(path),
            base,
            _encoder_head(stored),
            _outputs(stored),
            stored.reads_both_ways,
            has_class_labels(path),
        )


def makes_embeddings(path: Path) -> bool:
    """Tells whether a folder is one of sentence-transformers whose pooled states are embeddings, or end in labels."""
    return _pools(stated_modules(path) or ()) and not scores_pairs(path)


def has_class_labels(path: Path) -> bool:
    """Tells whether config_sentence_transformers.json names labels, in which what is pooled ends."""
    return Settings.read(path / CONFIG_FILE).value("labels") is not None


def _pools(modules: Sequence[StatedModule]) -> bool:
    return any(module.kind == "Pooling" for module in modules)


def _outputs(stored: CheckpointFolder) -> int:
    """Counts the outputs of a classification head as transformers does: two where nothing is said."""
    if stored_head(stored) != "classification_head":
        return 0
    names, count = stored.raw.get("id2label"), stored.raw.get("num_labels")
    return len(names) if isinstance(names, dict) else count if isinstance(count, int) else 2


def tokenizer_of_folder(path: Path) -> Path | None:
    """Finds tokenizer.json beside the model. Raises CheckpointError where there is one of another form alone."""
    inner = transformer_folder(path)
    tokenizer = inner / "tokenizer.json"
    if tokenizer.is_file():
        return tokenizer
    slow = [name for name in _SLOW_TOKENIZERS if (inner / name).is_file()]
    if slow:
        raise CheckpointError(
            f"checkpoint {str(path)!r} has {slow[0]} and no tokenizer.json: convert it with "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder), or remove it to score by token ids"
        )
    return None


def stored_head(stored: CheckpointFolder) -> Head:
    """Tells the head of a folder: that of its class, of a graph if it gives logits."""
    head = head_of(stored.architecture)
    return stated_head(stored.tensors, head) if isinstance(stored.tensors, OnnxTensors) else head


def _encoder_head(stored: CheckpointFolder) -> str | None:
    """Finds a head of labels that is not called `score`, as those of decoders are; that one where all of it was seen.

    So it is in decoders that read both ways, and in T5Gemma, whose encoder does, alone or with its decoder.
    """
    if stored_head(stored) != "classification_head":
        return None
    if isinstance(stored.tensors, OnnxTensors):
        return "logits"  # of a graph nobody shares a prefix
    heads = {name for tensor in stored.brought or stored.tensors if (name := head_name(tensor))}
    if "score" in heads:
        return "score" if stored.reads_both_ways or isinstance(stored.raw.get("encoder"), dict) else None
    return min(heads - {"pooler", "lm_head", "cls"}, default=None)


_SLOW_TOKENIZERS = ("vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def speaking_folders(path: Path, base: Path | None = None) -> tuple[Path, ...]:
    """Lists the folders that say what a checkpoint is: itself, its transformer's, and the base of an adapter."""
    inner = transformer_folder(path)
    own = tuple(dict.fromkeys((path, inner)))
    return (*own, base_of(inner, base)) if (inner / ADAPTER_CONFIG).is_file() else own


def head_of(architecture: str) -> Head:
    """Tells the head of a class of transformers by its name."""
    # Control LLM appends its own word to the class that it expands.
    original = architecture.removesuffix("Expansion")
    if original.endswith("ForSequenceClassification"):
        return "classification_head"
    if original.endswith("ForTokenClassification"):
        return "token_head"
    if original.endswith(("CausalLM", "LMHeadModel")):
        return "lm_head"
    if original in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values():
        return "seq2seq_lm_head"
    if original in _WRITERS:
        return "lm_head"
    return _OWN_HEADS.get(architecture, "none")


_WRITERS = frozenset(
    (*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(), *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values())
)
"""Classes that end in the next token, whatever they are called; those of images read texts alone too."""


_OWN_HEADS: dict[str, Head] = {
    two_tower.ARCHITECTURE: "towers",
    set_ranker.ARCHITECTURE: "sets",
    list_ranker.ARCHITECTURE: "list",
    jina.ARCHITECTURE: "list",
}
