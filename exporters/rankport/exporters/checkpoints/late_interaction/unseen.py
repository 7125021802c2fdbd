"""Condition of queries that are filled: what fills them sees a token of theirs.

Behind a narrow window of attention it may see none. Attention over nothing is the mean of all to one implementation of
transformers, and nothing to another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rankport.exporters.checkpoints.late_interaction.module import LateInteraction
from rankport.protos.errors import CheckpointError

_SHORTEST = 3
"""Tokens of a query with hardly a word: one before it, a mark, one behind it."""
_MOST = 1e-3
"""Share of the largest value by which implementations may differ otherwise: rounding is far below."""


def require_seen(module: LateInteraction) -> None:
    """Raises CheckpointError where a short query's vectors depend on which implementation of attention makes them."""
    expansion = module.form.expansion
    if expansion is None or expansion.attended:
        return
    ids = torch.ones(1, _SHORTEST, dtype=torch.int64)
    body: Any = module.body
    with torch.no_grad():
        own = module.represent(ids, torch.ones_like(ids), "query")
        try:
            with _by_sdpa(body):
                other = module.represent(ids, torch.ones_like(ids), "query")
        except Exception:  # a family that has no other implementation
            return
    if (own - other).abs().max() > _MOST * own.abs().max():
        raise CheckpointError(
            f"{module.form.where}: short queries are filled to {expansion.length} tokens, some of which see no token "
            f"of the query through the narrow attention of {type(body).__name__}, and transformers' implementations "
            "differ in what becomes of these: let the query see what fills it, if it was trained so, or fill it to a "
            "shorter length"
        )


@contextmanager
def _by_sdpa(body: Any) -> Iterator[None]:
    stated = body.config._attn_implementation
    body.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        body.set_attn_implementation(stated)
