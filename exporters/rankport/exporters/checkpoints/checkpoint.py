"""A checkpoint folder as an exportable model: loaded offline, from safetensors only.

Owns the facts of a loaded checkpoint and its hash. How each form is loaded, `forms` knows. Never runs code from the
folder, never unpickles.
"""

import dataclasses
import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedModel

from rankport.exporters.checkpoints.config.heads import WITHOUT_PROJECTION
from rankport.exporters.checkpoints.config.own_code import require_none
from rankport.exporters.checkpoints.content_hash import checkpoint_sha256
from rankport.exporters.checkpoints.forms.adapters.config import (
    ADAPTER_CONFIG,
    base_of,
    code_of_adapter,
    notes_of_base,
    notes_of_config,
)
from rankport.exporters.checkpoints.forms.adapters.head import with_adapters_head
from rankport.exporters.checkpoints.forms.adapters.merge import AdapterFacts, merge_adapter
from rankport.exporters.checkpoints.forms.adapters.published import (
    merge_by_published_names,
    require_mergeable,
)
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head
from rankport.exporters.checkpoints.forms.quantized.stands_for import dequantize
from rankport.exporters.checkpoints.forms.skeleton import token_table
from rankport.exporters.checkpoints.forms.table import load_form
from rankport.exporters.checkpoints.late_interaction.folder import is_late
from rankport.exporters.checkpoints.late_interaction.loading import late_interaction
from rankport.exporters.checkpoints.sentence_transformers.modules import transformer_folder
from rankport.exporters.checkpoints.sentence_transformers.pair_head import scores_pairs
from rankport.exporters.checkpoints.sentence_transformers.pair_scorer import pair_scorer
from rankport.exporters.checkpoints.sparse.folder import is_masked_lm, is_sparse
from rankport.exporters.checkpoints.sparse.loading import sparse_encoder
from rankport.exporters.checkpoints.stated import (
    has_class_labels,
    head_of,
    makes_embeddings,
    speaking_folders,
    tokenizer_of_folder,
)
from rankport.exporters.checkpoints.states import states_width
from rankport.exporters.quantization.facts import QuantizationFacts
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError, InvalidRequest

WantedHead = Literal["own", "none", "stated", "labelled", "towers", "masked_lm"]
"""Part of a checkpoint that is loaded: the class that its config names, the bare encoder or decoder body of it, or the
body where `modules.json` pools its states (`labelled`: to labels that the folder names) and the class otherwise. For
`towers` the class, where it is a masked LM as a sparse encoder; of which the `masked_lm` is the model alone."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model and where it came from."""

    path: Path
    model: nn.Module  # fp32 but for its quantized layers, eval mode, on the CPU, eager attention
    head: Head
    architecture: str
    model_type: str
    dtype: str  # of most stored values
    parameters: int
    sha256: str
    tokenizer_file: Path | None
    vocab_size: int
    hidden_size: int
    quantization: QuantizationFacts | None
    notes: tuple[str, ...]  # what the loader read off the tensors against the config's word, and left out
    ignored_code: tuple[
        str, ...
    ] = ()  # code of its own that was not run, as `CheckpointFolder.own_code` has it
    task: str | None = None  # of several that the folder has an adapter for: the one that is in the weights
    instruction: str | None = None  # text that the folder puts before items of that task
    library_reads: bool = True  # other libraries make the same model of the folder, without code of it
    adapter: "AdapterMerge | None" = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that say what it is, the adapter's before its base's."""
        return speaking_folders(self.path, None if self.adapter is None else self.adapter.base)

    @property
    def config_file(self) -> Path:
        """The config.json of its model, of an adapter its base's."""
        return transformer_folder(self.path if self.adapter is None else self.adapter.base) / "config.json"


@dataclass(frozen=True, slots=True)
class AdapterMerge:
    """The adapter that a checkpoint is, and the base that it was merged into."""

    facts: AdapterFacts
    base: Path
    base_sha256: str


def load_checkpoint(
    path: Path,
    *,
    head: WantedHead = "own",
    base: Path | None = None,
    ignore_remote_code: bool = False,
    task: str | None = None,
) -> Checkpoint:
    """Loads a folder with config.json and safetensors.

    A folder of a PEFT adapter is merged into its base: the folder `base`, or the one that its config names. Where
    `modules.json` names another folder for the transformer, model and tokenizer are read from there.
    `ignore_remote_code` loads transformers' own class of a checkpoint that brings code of its own, which is never run.
    `task` names the adapter to take of a folder that has one for each of its tasks; of another folder it says nothing.

    Raises:
        CheckpointError: naming the file, field or tensor at fault.
        InvalidRequest: an adapter's base is not at hand, or `base` is given for what is no adapter.
    """
    late = is_late(path)
    if is_sparse(path) or (head == "towers" and is_masked_lm(path)):
        return _sparse(_load_with_base(path, "masked_lm", base, ignore_remote_code, task))
    bodies = "none" if late or scores_pairs(path) else head
    loaded = _load_with_base(path, bodies, base, ignore_remote_code, task)
    if bodies == head:
        return loaded
    return _late(loaded) if late else _scoring_pairs(loaded)


def _load_with_base(
    path: Path, head: WantedHead, base: Path | None, ignore_remote_code: bool, task: str | None
) -> Checkpoint:
    """Loads a folder, of an adapter's merged into its base."""
    inner = transformer_folder(path)
    if not (inner / ADAPTER_CONFIG).is_file():
        if base is not None:
            raise InvalidRequest(
                f"--base {base}: checkpoint {str(path)!r} is no adapter (no {ADAPTER_CONFIG})"
            )
        return _load(path, head, ignore_remote_code, task=task)[0]
    folder = base_of(inner, base)
    notes = (*notes_of_base(inner, folder), *notes_of_config(inner, folder))
    below, merged = _load(folder, head, ignore_remote_code, inner, task)
    code = code_of_adapter(inner, folder)
    if not ignore_remote_code:
        require_none(inner, code, below.model_type, known=True)
    if below.quantization is not None:
        note = dequantize(below.model, below.quantization)
        below = dataclasses.replace(below, quantization=None, notes=(*below.notes, note))
    model, facts = (below.model, merged) if merged is not None else merge_adapter(below.model, inner)
    own = checkpoint_sha256(path)
    return dataclasses.replace(
        below,
        path=path,
        model=model,
        head=_loaded_head(head, type(model).__name__, path),
        architecture=type(model).__name__,
        parameters=_parameters(model),
        sha256=hashlib.sha256(f"{own}{below.sha256}".encode()).hexdigest(),
        tokenizer_file=tokenizer_of_folder(path) or below.tokenizer_file,
        vocab_size=_vocab_size(model),
        adapter=AdapterMerge(facts, folder, below.sha256),
        ignored_code=(*below.ignored_code, *code),
        notes=(*below.notes, *notes, *facts.notes),
    )


def _scoring_pairs(body: Checkpoint) -> Checkpoint:
    """Puts the head of a CrossEncoder's folder that pools on its body."""
    model = body.model
    assert isinstance(model, PreTrainedModel)
    typed = "token_type_ids" in inspect.signature(model.forward).parameters
    scorer = pair_scorer(model, body.path, states_width(model, body.hidden_size), typed=typed)
    return dataclasses.replace(body, model=scorer, head="classification_head", parameters=_parameters(scorer))


def _late(body: Checkpoint) -> Checkpoint:
    """Puts what a folder of late interaction says on its body."""
    model = late_interaction(body.path, body.model, body.tokenizer_file)
    notes = tuple(note for note in body.notes if note != WITHOUT_PROJECTION)
    return dataclasses.replace(
        body, model=model, head="towers", parameters=_parameters(model), hidden_size=model.width, notes=notes
    )


def _sparse(masked: Checkpoint) -> Checkpoint:
    """Puts what a folder of a sparse encoder says on its masked LM."""
    model = sparse_encoder(masked.path, masked.model, masked.tokenizer_file)
    return dataclasses.replace(
        masked, model=model, head="towers", parameters=_parameters(model), hidden_size=model.width
    )


def _load(
    path: Path,
    wanted: WantedHead,
    ignore_remote_code: bool,
    adapter: Path | None = None,
    task: str | None = None,
) -> tuple[Checkpoint, AdapterFacts | None]:
    """Loads a folder, as the base of `adapter` if given; facts of that where it is merged already."""
    inner = transformer_folder(path)
    folder = CheckpointFolder.open(inner, task)
    tasks, dtype = folder.adapters, folder.tensors.main_dtype()
    if adapter is not None:
        require_mergeable(folder)
        folder = folder if wanted == "none" else with_adapters_head(folder, adapter)
    code, known = folder.own_code, folder.raw.get("model_type") in CONFIG_MAPPING
    if not (ignore_remote_code and known):
        require_none(inner, code, folder.raw.get("model_type"), known=known)
    if tasks is not None:
        tasks.place(task)
    head = _loaded_head(wanted, folder.architecture, path)
    merged: AdapterFacts | None = None
    if adapter is not None and folder.published is not None:
        folder, merged = merge_by_published_names(folder, adapter, head)
    loaded = load_form(folder, head)
    model = loaded.model
    text_config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    checkpoint = Checkpoint(
        path=path,
        model=model,
        head=head,
        architecture=folder.architecture,
        model_type=str(folder.raw["model_type"]),
        dtype=dtype,
        parameters=loaded.parameters or _parameters(model),
        sha256=checkpoint_sha256(path),
        tokenizer_file=tokenizer_of_folder(path),
        vocab_size=_vocab_size(model),
        hidden_size=int(text_config.hidden_size),
        quantization=loaded.quantization,
        notes=loaded.notes,
        ignored_code=code,
        task=None if tasks is None else task,
        instruction=None if tasks is None or task is None else tasks.instructions[task],
        library_reads=folder.published is None,
    )
    return checkpoint, merged


def _loaded_head(wanted: WantedHead, architecture: str, path: Path) -> Head:
    if wanted == "masked_lm":
        return "masked_lm_head"
    bare = wanted == "none" or (wanted in ("stated", "labelled") and makes_embeddings(path))
    if wanted == "labelled":
        bare = bare and has_class_labels(path)
    head = "none" if bare else head_of(architecture)
    if bare or head != "none":
        return head
    stated = "names" if architecture == "?" else f"is {architecture!r},"
    raise CheckpointError(
        f"{path / 'config.json'}: architectures {stated} no class with a head that answers (...ForCausalLM, "
        "...ForSequenceClassification, ...ForTokenClassification): use --kind item-encoder for a bare encoder"
    )


def _vocab_size(model: nn.Module) -> int:
    table = token_table(model)
    # I-BERT's has none, a low-bit one has it beside its codes.
    rows = getattr(table, "num_embeddings", None)
    return len(table.weight) if rows is None else int(rows)


def _parameters(model: nn.Module) -> int:
    low_bit = (layer.quantized.codes for layer in model.modules() if isinstance(layer, QuantizedLinear))
    return sum(values.numel() for values in (*model.parameters(), *low_bit))
