"""The limits of a ranker: what it was asked for, within what it can do exactly."""

from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.survey import Survey
from rankport.runtime.bundle.manifest import Limits

_DEFAULT_TOKENS = 1024


def ranker_limits(facts: Survey, options: RankerOptions) -> Limits:
    """Chooses limits within the checkpoint's windows and positions. CheckpointError if those asked for exceed them."""
    total = min(
        limit for limit in (facts.window, facts.max_positions, 2 * _DEFAULT_TOKENS) if limit is not None
    )
    prefix, item = options.max_prefix_tokens, options.max_item_tokens
    if prefix is None:
        prefix = min(_DEFAULT_TOKENS, max(total - item, 0) if item is not None else total // 2)
    if item is None:
        item = max(1, min(_DEFAULT_TOKENS, total - prefix))
    facts.check_length(prefix, item)
    return Limits(max_prefix_tokens=prefix, max_item_tokens=item)
