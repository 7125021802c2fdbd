"""The prompt of a sparse encoder: query and item framed by the tokenizer, with the folder's text before each.

Queries that are weighed token by token have no frame.
"""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sparse.form import SparseForm
from rankport.exporters.kinds.two_tower.side_prompts import QUERY, parts_of, prompt_of_sides, prompted
from rankport.exporters.options.prompts import ResolvedPrompt, framed_prompt
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Prompt, Segment


def sparse_prompt(source: Checkpoint, form: SparseForm) -> ResolvedPrompt:
    """Makes the prompt by which a folder of a sparse encoder reads queries and items.

    Raises CheckpointError for what stands before a text in another way than segments do.
    """
    framed = framed_prompt(source.tokenizer_file)
    before, (item, *after) = parts_of(framed.prompt.item)
    tokenizer = framed.tokenizer
    bare = form.static is not None
    if tokenizer is None:
        if form.query_prompt or form.item_prompt:
            raise CheckpointError(
                f"checkpoint {str(source.path)!r} has prompts and no tokenizer.json to read them with"
            )
        return ResolvedPrompt(Prompt(prefix=[Segment(field=QUERY)], item=[item]), None, None)
    query = prompted(source, form.query_prompt, item, tokenizer)
    items = prompted(source, form.item_prompt, item, tokenizer)
    asked = query if bare else [*before, *query, *after]
    return prompt_of_sides(asked, [*before, *items, *after], tokenizer)
