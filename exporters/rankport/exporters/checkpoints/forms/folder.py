"""A checkpoint folder before any weight is read: its config and what it stores."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import transformers
from torch import nn

from rankport.exporters.checkpoints.bidirectional_llama.config import MODEL_TYPE as BIDIRECTIONAL_TYPE
from rankport.exporters.checkpoints.bidirectional_llama.config import notes_of
from rankport.exporters.checkpoints.config.direction import reads_both_ways
from rankport.exporters.checkpoints.config.fields import require_known_fields
from rankport.exporters.checkpoints.config.json_file import read_json_object as read_json_object
from rankport.exporters.checkpoints.config.own_code import own_code
from rankport.exporters.checkpoints.config.quantization_files import method_of, with_quantization
from rankport.exporters.checkpoints.expansion.family import EXPANDED_TYPE
from rankport.exporters.checkpoints.forms.onnx_file import onnx_tensors, unread_graph
from rankport.exporters.checkpoints.forms.renamed_tensors import RenamedTensors
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors, of_llama_cpp
from rankport.exporters.checkpoints.list_ranker import jina
from rankport.exporters.checkpoints.list_ranker.recipe import with_recipe
from rankport.exporters.checkpoints.published.layout import PublishedLayout, PublishedModel, TaskAdapters
from rankport.exporters.checkpoints.published.table import layout_of
from rankport.exporters.quantization.facts import QuantizationFacts
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.bundle import is_bundle

Head = Literal[
    "lm_head",
    "seq2seq_lm_head",
    "masked_lm_head",
    "classification_head",
    "token_head",
    "towers",
    "sets",
    "list",
    "none",
]
"""End of a class: the next token, of a decoder or of an encoder-decoder; the token itself, of a masked LM; labels
of the whole, labels of each token, a score of two towers, scores of a set or of a list, or hidden states."""


_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """config.json and the stored tensors of one folder."""

    path: Path
    # config.json, with what files beside it state: quantization_config, or how it ranks lists.
    raw: dict[str, Any]
    tensors: StoredTensors
    notes: tuple[str, ...] = ()  # what was read of other files
    brought: frozenset[str] = frozenset()  # tensors of an adapter's head, for which a stored one stays behind
    published: PublishedLayout | None = None  # in whose words it was, before fields and tensors were renamed
    words: PublishedModel | None = None  # of such a layout: what was renamed to what

    @classmethod
    def open(cls, path: Path, task: str | None = None) -> "CheckpointFolder":
        """Opens a folder; `task` is the one whose adapter its tensors are read with, where it has some.

        Raises CheckpointError naming the file that is missing or damaged.
        """
        require_checkpoint(path)
        raw, notes = with_quantization(path, _stated(path / "config.json"))
        raw, recipe = with_recipe(path, raw)
        notes += recipe + notes_of(raw)
        graph = onnx_tensors(path)
        if graph is not None:
            return cls(path, raw, graph, notes)
        tensors = StoredTensors.open(path)
        notes = (*notes, *tensors.notes(), *unread_graph(path))
        return cls(path, raw, tensors, notes)._in_words_of_transformers(task)

    def _in_words_of_transformers(self, task: str | None) -> "CheckpointFolder":
        """Renames fields and tensors of a published layout; of another nothing."""
        layout = layout_of(self.raw, self.tensors.names)
        if layout is None:
            return self
        model = layout.read(self.raw)
        read = f"fields and tensors are read by the names of {layout.code}"
        code = "; code of it, which auto_map names, was not run" if self.raw.get("auto_map") else ""
        return dataclasses.replace(
            self,
            raw=model.raw,
            tensors=RenamedTensors(self.tensors, model, task),
            notes=(*self.notes, f"config.json: {read}{code}", *model.notes),
            published=layout,
            words=model,
        )

    @property
    def adapters(self) -> TaskAdapters | None:
        """Adapters that a published layout has for its tasks."""
        return None if self.words is None else self.words.adapters

    @property
    def architecture(self) -> str:
        """The class that the config names."""
        return str((self.raw.get("architectures") or ["?"])[0])

    @property
    def reads_both_ways(self) -> bool:
        """True of a decoder whose tokens see those behind them too."""
        return stated_both_ways(self.raw)

    @property
    def quantization_method(self) -> str | None:
        """`quantization_config.quant_method`, if the checkpoint is quantized."""
        return method_of(self.raw)

    @property
    def own_code(self) -> tuple[str, ...]:
        """Code that the folder's JSON files ask for instead of transformers', in words; none is ever run."""
        # Control LLM's own classes, jina-reranker-v3's and NVIDIA's Llama are what forms and classes of ours compute,
        # those of published layouts what transformers does.
        types = (EXPANDED_TYPE, BIDIRECTIONAL_TYPE)
        known = self.raw.get("model_type") in types or self.architecture == jina.ARCHITECTURE
        known = known or (self.published is not None and self.published.has_code(self.raw.get("auto_map")))
        return (() if known else own_code("config.json", self.raw)) + code_beside(self.path)


def stated_both_ways(raw: Mapping[str, Any]) -> bool:
    """Tells whether a config.json is of a decoder that reads both ways: by its type, or by a field."""
    return reads_both_ways(raw) or raw.get("model_type") == BIDIRECTIONAL_TYPE


def _stated(file: Path) -> dict[str, Any]:
    """Reads config.json, and checks the fields that are looked at before transformers makes its config."""
    raw = read_json_object(file)
    names = raw.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise CheckpointError(f"{file}: architectures is {names!r:.60}, must be a list of names of classes")
    return raw


def code_beside(path: Path) -> tuple[str, ...]:
    """Lists code that a folder's tokenizer asks for, as `CheckpointFolder.own_code` does."""
    file = path / "tokenizer_config.json"
    return own_code(file.name, read_json_object(file)) if file.is_file() else ()


def require_checkpoint(path: Path) -> None:
    """Raises CheckpointError for what is no folder, or a bundle's; says what to give instead."""
    if path.is_dir():
        if is_bundle(path):
            raise CheckpointError(
                f"{str(path)!r} is a bundle, which was exported already: `rankport inspect {quote(str(path))}` "
                "shows it; give the folder of the checkpoint that it was made of"
            )
        revision = _cached_revision(path)
        if revision is not None:
            raise CheckpointError(
                f"{str(path)!r} is a model's folder of a Hugging Face cache: give that of a revision, {str(revision)!r}"
            )
        theirs = of_llama_cpp(path.glob("*"))
        if theirs and not (path / "config.json").is_file():
            raise CheckpointError(f"checkpoint {str(path)!r} has no config.json; {theirs}")
        inner = _last_checkpoint(path)
        if inner is not None:
            raise CheckpointError(
                f"checkpoint {str(path)!r} has no config.json, it is a folder of checkpoints of a training: give one, "
                f"{str(inner)!r}"
            )
        return
    if path.is_file():
        raise CheckpointError(
            f"checkpoint {str(path)!r} is a file: "
            + (
                of_llama_cpp([path])
                or "give the folder of a Hugging Face checkpoint, config.json and safetensors"
            )
        )
    hub = ""
    if _HUB_ID.fullmatch(str(path)):
        hub = f"; if it is the name of a model on a hub, get it first: hf download {path} --local-dir {path.name}"
    raise CheckpointError(
        f"checkpoint {str(path)!r} is not a folder here, and nothing is ever downloaded: give a Hugging Face "
        f"checkpoint on disk{hub}"
    )


def _last_checkpoint(path: Path) -> Path | None:
    """Finds the last checkpoint-STEP of a training in a folder that has no model of its own."""
    if any((path / name).exists() for name in ("config.json", "adapter_config.json", "modules.json")):
        return None
    steps = [folder for folder in path.glob("checkpoint-*") if folder.name.partition("-")[2].isdecimal()]
    return max(steps, key=lambda folder: int(folder.name.partition("-")[2]), default=None)


def _cached_revision(path: Path) -> Path | None:
    """Finds the folder of a revision where `path` is the one of a model in a cache: that of main, else any."""
    if (path / "config.json").exists():
        return None
    main = path / "refs" / "main"
    named = [path / "snapshots" / main.read_text().strip()] if main.is_file() else []
    return next((folder for folder in (*named, *sorted(path.glob("snapshots/*"))) if folder.is_dir()), None)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Model and facts that a form's loader makes."""

    model: nn.Module  # fp32 but for its quantized layers, eval mode, on the CPU, eager attention
    quantization: QuantizationFacts | None = None
    notes: tuple[str, ...] = ()  # what the loader read off the tensors against the config's word
    parameters: int | None = None  # where they are not the model's own


_NOT_THE_MODELS = frozenset(
    {
        *("quantization_config", "auto_map"),
        # in which form a call answers, and in pieces of what size it computes: nothing of what
        *(
            "return_dict",
            "torchscript",
            "output_hidden_states",
            "output_attentions",
            "chunk_size_feed_forward",
        ),
    }
)


def parse_config(folder: CheckpointFolder) -> transformers.PreTrainedConfig:
    """Makes transformers' config of the folder, without a quantizer, all its fields accounted for; runs no code of it.

    Raises CheckpointError naming the field at fault.
    """
    config = config_facts(folder)
    require_known_fields(folder.raw, config, str(folder.path / "config.json"))
    return config


def config_facts(folder: CheckpointFolder) -> transformers.PreTrainedConfig:
    """Makes transformers' config for a model whose maths are not the config's: a field may be one that nothing reads.

    Raises CheckpointError for what transformers cannot read.
    """
    # Its quantization and its own code were dealt with before: transformers would look for both. Ours are tensors of a
    # class's own answer, by name, computed at once.
    raw = {key: value for key, value in folder.raw.items() if key not in _NOT_THE_MODELS}
    kind = str(raw.get("model_type"))
    if kind not in transformers.CONFIG_MAPPING:
        raise CheckpointError(
            f"{folder.path / 'config.json'}: model_type {kind!r} is unknown to transformers "
            f"{transformers.__version__}"
        )
    try:
        config: transformers.PreTrainedConfig = transformers.CONFIG_MAPPING[kind].from_dict(raw)
    except Exception as error:  # config classes validate with exceptions of their own
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read {folder.path / 'config.json'}: {reason}") from error
    return config
