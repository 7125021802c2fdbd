"""A loaded body and what its folder says, made one module."""

from pathlib import Path

from torch import nn

from rankport.exporters.checkpoints.late_interaction.folder import late_form
from rankport.exporters.checkpoints.late_interaction.module import LateInteraction, LateTokens
from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer
from rankport.protos.errors import CheckpointError


def late_interaction(path: Path, body: nn.Module, tokenizer_file: Path | None) -> LateInteraction:
    """Makes the module of a folder of late interaction. Raises CheckpointError for what cannot be exported."""
    if tokenizer_file is None:
        raise CheckpointError(
            f"checkpoint {str(path)!r} has no tokenizer.json, which says what fills a query and what is skipped"
        )
    form = late_form(path)
    model = LateInteraction(body, form, LateTokens.of(form, own_tokenizer(tokenizer_file)))
    return model.eval().requires_grad_(False)
