"""The prompt of two towers: query and item apart, each framed as the tokenizer frames a text."""

from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.late_interaction.module import LateInteraction
from rankport.exporters.checkpoints.sparse.module import SparseEncoder
from rankport.exporters.kinds.two_tower.late_prompt import late_prompt
from rankport.exporters.kinds.two_tower.options import TwoTowerOptions
from rankport.exporters.kinds.two_tower.side_prompts import QUERY
from rankport.exporters.kinds.two_tower.sparse_prompt import sparse_prompt
from rankport.exporters.options.presets import BARE
from rankport.exporters.options.prompts import (
    ResolvedPrompt,
    check_prompt_name,
    framed_prompt,
    resolve_prompt,
)
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Prompt, Segment


def check_two_tower_prompt(checkpoint: Path, options: TwoTowerOptions) -> None:
    """Raises InvalidRequest for a prompt that is neither file nor preset."""
    check_prompt_name(options.prompt)


def two_tower_prompt(source: Checkpoint, options: TwoTowerOptions) -> ResolvedPrompt:
    """Takes the prompt that is named, or frames query and item. Raises InvalidRequest for one that does not fit."""
    if isinstance(source.model, LateInteraction):
        _require_none(options, "late interaction")
        return late_prompt(source, source.model.form)
    if isinstance(source.model, SparseEncoder):
        _require_none(options, "a sparse encoder")
        return sparse_prompt(source, source.model.form)
    if options.prompt is None or str(options.prompt) == BARE:
        framed = framed_prompt(source.tokenizer_file)
        query = [Segment(field=QUERY) if segment.item else segment for segment in framed.prompt.item]
        return ResolvedPrompt(Prompt(prefix=query, item=framed.prompt.item), None, framed.tokenizer)
    resolved = resolve_prompt(options.prompt, source.tokenizer_file)
    if not resolved.prompt.fields:
        raise InvalidRequest(f"{options.prompt}: two towers read the query as [[prefix]]: give it a field")
    if resolved.prompt.item[0].joined:
        raise InvalidRequest(
            f"{options.prompt}: two towers read query and item apart: leave joined out of the first [[item]]"
        )
    if resolved.labels is not None:
        raise InvalidRequest(f"{options.prompt}: two towers name their outputs themselves: leave labels out")
    return resolved


def _require_none(options: TwoTowerOptions, of: str) -> None:
    if options.prompt is not None:
        raise InvalidRequest(
            f"--prompt {options.prompt}: a folder of {of} says what stands before a query and an item: leave it out"
        )
