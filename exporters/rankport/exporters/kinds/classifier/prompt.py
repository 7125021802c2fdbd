"""The prompt of a classifier: one text or two, framed as the checkpoint's tokenizer frames them."""

from dataclasses import replace

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.folder import EncoderFolder, read_encoder_folder
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.labels.pooled_head import PREFIX_POOLINGS
from rankport.exporters.kinds.texts.folder_prompt import folder_prompt
from rankport.exporters.kinds.texts.pairs.frame import PairFrame, PairTokenizer
from rankport.exporters.options.prompts import (
    ResolvedPrompt,
    framed_prompt,
    resolve_prompt,
    tokenizer_of,
)
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Prompt, Segment


def classifier_prompt(source: Checkpoint, options: ClassifierOptions) -> ResolvedPrompt:
    """Makes the frame of a pair, or takes a text's prompt: the one named, the folder's, or the bare text.

    Raises InvalidRequest or CheckpointError for one that cannot be exported.
    """
    folder = read_encoder_folder(source.path) if source.head == "none" else None
    stated = "" if folder is None else folder.prompt(None)
    if options.texts == "pair":
        _refuse_prompt(stated, source)
        if folder is not None and folder.transformer.messages is not None:
            raise InvalidRequest(
                f"checkpoint {str(source.path)!r} reads texts as messages of a chat template, which a pair's frame "
                "lacks: leave --texts pair out"
            )
        return ResolvedPrompt(
            PairFrame.of(source.tokenizer_file).prompt, None, tokenizer_of(source.tokenizer_file)
        )
    if options.prompt is not None:
        resolved = resolve_prompt(options.prompt, source.tokenizer_file)
        if resolved.prompt.prefix:
            raise InvalidRequest(
                f"{options.prompt}: a classifier of one text has no prefix: leave [[prefix]] out"
            )
        return resolved
    if folder is not None:
        if stated and not folder.pooling.include_prompt:
            _refuse_prompt(stated, source)
        return replace(folder_prompt(source, folder, None), notes=_whole_sequences(source, folder))
    return _keeping_side(framed_prompt(source.tokenizer_file), source)


def _whole_sequences(source: Checkpoint, folder: EncoderFolder) -> tuple[str, ...]:
    """Notes of a decoder that texts share nothing here, and what else could be had."""
    if not any(getattr(part, "is_causal", False) for part in source.model.modules()):
        return ()
    read = PREFIX_POOLINGS.get(folder.pooling.modes)
    if read is not None:
        return (
            f"whole sequences: a decoder that is read {read} can share a prefix among texts: --kind ranker",
        )
    pooled = " and ".join(folder.pooling.modes)
    return (f"whole sequences: a decoder pooled by {pooled} is read at all tokens, and shares no prefix",)


def _keeping_side(resolved: ResolvedPrompt, source: Checkpoint) -> ResolvedPrompt:
    """Keeps the end of a text that is too long where the tokenizer cuts at its left."""
    if (
        source.tokenizer_file is None
        or PairTokenizer.of(source.tokenizer_file).inner.truncation_side == "right"
    ):
        return resolved
    item = [Segment(item=True, keep="end") if segment.item else segment for segment in resolved.prompt.item]
    return replace(resolved, prompt=Prompt(prefix=[], item=item))


def _refuse_prompt(stated: str, source: Checkpoint) -> None:
    if stated:
        raise InvalidRequest(
            f"checkpoint {str(source.path)!r} puts {stated!r} before each text (default_prompt_name) in a way that a "
            "classifier's graph lacks: put it into the texts, and take default_prompt_name out of "
            "config_sentence_transformers.json"
        )
