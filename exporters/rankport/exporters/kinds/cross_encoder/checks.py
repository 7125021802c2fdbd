"""Checks of a cross-encoder's export before any weight is read: options that fit its head, and its prompt."""

from pathlib import Path

from rankport.exporters.checkpoints.stated import StatedModel, speaking_folders
from rankport.exporters.kinds.cross_encoder.first_token import answers_by_token
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.cross_encoder.prompted import reads_prompt
from rankport.exporters.options.presets import PRESET_WORDS
from rankport.exporters.options.prompts import check_prompt_name
from rankport.exporters.options.stated_prompt import require_prompt
from rankport.protos.errors import CheckpointError, InvalidRequest


def check_cross_encoder(checkpoint: Path, options: CrossEncoderOptions) -> None:
    """Checks options against the head that the folder states.

    Raises:
        CheckpointError: the head is that of a decoder that reads from left to right, or is not stored.
        InvalidRequest: an option is of another head, or a prompt is none, or missing where one is read.
    """
    base = None if options.base is None else Path(options.base)
    model = StatedModel.read(checkpoint, base)
    if model.head == "classification_head" and model.encoder_head is None:
        raise CheckpointError(
            f"{model.architecture} has no head of labels that reads states of the whole text: of a decoder, which "
            "reads from left to right, --kind ranker shares the prefix among the items; of an encoder its tensors are "
            "missing: copy the checkpoint again"
        )
    if not reads_prompt(model):
        options.refuse_of_prompts(model.architecture)
        return
    options.refuse_of_frames(model.architecture)
    if not answers_by_token(model):
        options.refuse_of_tokens(model.architecture)
    check_prompt_name(options.prompt)
    if options.prompt is None:
        require_prompt(checkpoint, speaking_folders(checkpoint, base))
        raise InvalidRequest(
            f"{model.architecture} reads a prompt, and nothing says which: give the one that it was trained with as "
            f"--prompt FILE, or a preset: {PRESET_WORDS}"
        )
