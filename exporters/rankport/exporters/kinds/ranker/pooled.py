"""Rankers of a bare decoder whose pooled states go through Dense layers to labels: a sentence-transformers folder.

Owns what such a folder must be. Read are the last token's state, or an average of all, of which the prefix's part is
computed once. Other poolings share no prefix, and are a classifier's.
"""

from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.dense_module import dense_stack
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.kinds.labels.pooled_head import PREFIX_POOLINGS, pooled_form, pooled_head
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.texts.encoder_module import stored_dense
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.exporters.kinds.texts.folder_prompt import require_lower_case
from rankport.exporters.options.presets import BARE
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import ClassHead, Embedding
from rankport.runtime.bundle.sections.embedding import AVERAGES


def pooled_labels(source: Checkpoint, options: RankerOptions) -> tuple[tuple[str, ...], ClassHead] | None:
    """Reads names and head of a body whose pooled states end in labels; None for a class with a head of its own.

    Raises:
        CheckpointError: it pools in a way that shares no prefix.
        InvalidRequest: the folder puts a prompt before each text, and none is given, or leaves it out of the average.
    """
    if source.head != "none":
        return None
    names, head = pooled_head(source, named=False)
    if head.poolings not in PREFIX_POOLINGS:
        kinds = " and ".join(head.poolings)
        raise CheckpointError(
            f"checkpoint {str(source.path)!r} pools by {kinds}, of which no part is a prefix's alone: a ranker's is "
            f"shared where the last token is read, or an average ({', '.join(AVERAGES)}): --kind classifier reads "
            "whole sequences"
        )
    _check_texts(source, options, averages=head.pooling in AVERAGES)
    return names, head


def dense_head(source: Checkpoint, head: ClassHead | None, outputs: int) -> nn.Module | None:
    """Makes the Dense layers of a head; None of one that is the class's own."""
    form = _form(head, outputs)
    return None if form is None else dense_stack(form.dense, stored_dense(source, form))


def pooled_reference(source: Checkpoint, head: ClassHead | None, outputs: int) -> EncoderReference | None:
    """Makes what takes the source's states to logits; None where its class does."""
    form = _form(head, outputs)
    return None if form is None else EncoderReference.of(source, form)


def pair_limit_of(source: Checkpoint) -> int | None:
    """Gives the tokens that the folder reads of prefix and item together; None where it states none."""
    folder = read_encoder_folder(source.path) if source.head == "none" else None
    return None if folder is None else folder.transformer.max_seq_length


def _form(head: ClassHead | None, outputs: int) -> Embedding | None:
    return None if head is None else pooled_form(head, outputs)


def _check_texts(source: Checkpoint, options: RankerOptions, *, averages: bool) -> None:
    folder = read_encoder_folder(source.path)
    assert folder is not None
    if folder.transformer.lower_case and source.tokenizer_file is not None:
        require_lower_case(source.tokenizer_file, folder)
    text = folder.prompt(None)
    if text and averages and not folder.pooling.include_prompt and options.prompt != BARE:
        raise InvalidRequest(
            f"checkpoint {str(source.path)!r} pools without the tokens of {text!r}, which it puts before each text "
            f"(include_prompt is false), and a ranker pools all: say --prompt {BARE} to leave them out"
        )
    if text and options.prompt is None:
        raise InvalidRequest(
            f"checkpoint {str(source.path)!r} puts {text!r} before each text (default_prompt_name): write the whole "
            f"prompt as a file and give it by --prompt, or say --prompt {BARE} to leave it out"
        )
