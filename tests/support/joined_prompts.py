"""Prompts of joined segments, the texts that fill them, and the joined text written by hand."""

from collections.abc import Sequence

from hypothesis import strategies as st

from rankport.runtime.bundle.manifest import Limits, ModelShape, Prompt, Segment
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.bundle_samples import ranker_draft
from support.prompt_encoders import encoded, ids
from support.text_tokenizers import KINDS, tokenizer_of

OFFICIAL = Prompt(
    prefix=[
        Segment(text="<Query>: "),
        Segment(field="query", joined=True),
        Segment(text="\n<Document>: ", joined=True),
    ],
    item=[Segment(item=True, joined=True)],
)
FRAMED = Prompt(
    prefix=[Segment(text="A: "), Segment(field="query", joined=True), Segment(text="\nB:", joined=True)],
    item=[
        Segment(text=" (", joined=True),
        Segment(item=True, joined=True),
        Segment(text=")\nyes or no: ", joined=True),
    ],
)
ITEM_FIRST = Prompt(
    prefix=[Segment(text="Is it?\n<Document> ")],
    item=[
        Segment(item=True, joined=True),
        Segment(text="\n<Query> ", joined=True),
        Segment(field="query", joined=True),
        Segment(text=" ??", joined=True),
    ],
)
TEXTS = (
    "what is it",
    "it is",
    "what what",
    "no it",
    "",
    " red",
    "shoes \n",
    "12",
    "我们 é",
    "'s (x)",
    "\n\nA",
)
TOKENIZERS = {kind: tokenizer_of(kind) for kind in KINDS}
ANY_TEXT = st.text(st.sampled_from("ab it12.,:;-'\"()<>#_ \n\t\r我é\u0301😀\u00a0Я"), max_size=12) | st.text(
    st.characters(exclude_categories=("Cs",)), max_size=8
)


def encoder_of(prompt: Prompt, tokenizer: Tokenizer, prefix: int = 400, item: int = 400) -> PromptEncoder:
    """Makes an encoder of text alone."""
    draft = ranker_draft(
        prompt=prompt,
        shape=ModelShape(hidden_size=4, vocab_size=tokenizer.vocab_size, layers=[]),
        limits=Limits(max_prefix_tokens=prefix, max_item_tokens=item),
        embedding=None,
        pairing=None,
    )
    return PromptEncoder(draft, tokenizer)


def joined_text(prompt: Prompt, query: str, item: str) -> str:
    """Writes a prompt of texts by hand."""
    parts = [
        query if segment.field else item if segment.item else segment.text or ""
        for segment in [*prompt.prefix, *prompt.item]
    ]
    return "".join(parts)


def whole_ids(encoder: PromptEncoder, query: str, items: Sequence[str]) -> list[list[int]]:
    """Lists the ids of prefix and item, for each item."""
    prefix = encoder.encode_prefix(query)
    return [ids(prefix) + ids(item) for item in encoded(encoder, items, behind=prefix)]
