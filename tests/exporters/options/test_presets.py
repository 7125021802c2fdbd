"""Presets: the ids of each are those of its published code, written out here by that code's own steps."""

import dataclasses
from collections.abc import Callable

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.presets import PRESETS, prompt_file_of
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Limits, ModelShape
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.prompt_file import load_prompt_file, validate_prompt
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.bundle_samples import ranker_draft
from support.prompt_encoders import encoded, ids
from support.text_tokenizers import LINES, saved

CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_APART = [line.replace("A: B:", "A B :") for line in LINES]
"""Lines in which "A:" and "B:" are two tokens each."""
TOKENIZERS = {
    "qwen3-reranker": saved("qwen", (*LINES, "system user assistant"), CHAT, ("<think>", "</think>")),
    "ctxl-rerank": saved("qwen", (*LINES, "Check whether a given document <Document> <Query> ?? !"), CHAT),
    "mxbai": saved("qwen", (*LINES, "query: document: Relevance: 0 1"), CHAT),
    "monot5": saved("metaspace", (*LINES, "Query: Document: Relevant: true false"), ("<pad>", "</s>")),
    "zerank": saved("qwen", (*LINES, "system user assistant"), CHAT),
    "rankllama": saved("metaspace", (*LINES, "query: document:"), ("<s>", "</s>")),
    "nemotron-rerank": saved("qwen", (*LINES, "question: passage: \n \n passage:"), ("<|begin_of_text|>",)),
    "bge-minicpm": saved("metaspace", (*_APART, "Given a query A and a passage B or No"), ("<s>", "</s>")),
    "bge-gemma": saved("gemma", (*LINES, "Given a query A and a passage B, Yes or No"), ("<bos>", "<eos>")),
    "bge-gemma2-lightweight": saved(
        "gemma", (*LINES, "Given a query A and a passage B, Yes or No"), ("<bos>", "<eos>")
    ),
}


Recipe = Callable[[PreTrainedTokenizerFast, str, str, int], list[int]]


def _qwen3_reranker(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    instruction = "Given a web search query, retrieve relevant passages that answer the query"
    prefix_tokens = hf.encode(prefix, add_special_tokens=False)
    suffix_tokens = hf.encode(suffix, add_special_tokens=False)
    pairs = [f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {doc}"]
    most = max_length - len(prefix_tokens) - len(suffix_tokens)
    inputs = hf(pairs, padding=False, truncation="longest_first", max_length=most)
    return prefix_tokens + list(inputs["input_ids"][0]) + suffix_tokens


def _mxbai(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
    def get(text: str, most: int | None = None) -> list[int]:
        cut = {} if most is None else {"max_length": most, "truncation": True}
        return list(hf(text, add_special_tokens=False, **cut)["input_ids"])

    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    prefix = get(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
    )
    suffix, sep = get("<|im_end|>\n<|im_start|>assistant\n"), get("\n")
    first = get(f"query: {query}", max_length * 3 // 4)
    second = sep + get(f"document: {doc}", max_length)
    second = second[: max_length - len(first)]  # prepare_for_model(truncation="only_second")
    return prefix + first + second + sep + get(task) + suffix


def _flag_embedding(prompt: str) -> Recipe:
    def recipe(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
        prompt_inputs = hf(prompt, add_special_tokens=False)["input_ids"]
        sep_inputs = hf("\n", add_special_tokens=False)["input_ids"]
        encode_max_length = max_length + len(sep_inputs) + len(prompt_inputs)
        first = hf(f"A: {query}", add_special_tokens=False, max_length=max_length * 3 // 4, truncation=True)
        second = hf(f"B: {doc}", add_special_tokens=False, max_length=max_length, truncation=True)
        head, tail = [hf.bos_token_id, *first["input_ids"]], [*sep_inputs, *second["input_ids"]]
        tail = tail[: encode_max_length - len(head)]  # prepare_for_model(truncation="only_second")
        return [*head, *tail, *sep_inputs, *prompt_inputs]

    return recipe


_bge = _flag_embedding(
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
_bge_lightweight = _flag_embedding("Predict whether passage B contains an answer to query A.")


def _zerank(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
    """Follows the code but for the blanks around query and document, which it strips."""
    text = (
        f"<|im_start|>system\n{query}<|im_end|>\n<|im_start|>user\n{doc}<|im_end|>\n<|im_start|>assistant\n"
    )
    return list(hf(text)["input_ids"])


def _ctxl_rerank(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
    text = (
        "Check whether a given document contains information helpful to answer the query.\n"
        f"<Document> {doc}\n<Query> {query} ??"
    )
    return list(hf(text)["input_ids"])


def _rankllama(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
    texts = (hf.encode(text, add_special_tokens=False) for text in (f"query: {query}", f"document: {doc}"))
    return [token for text in texts for token in (hf.bos_token_id, *text)]


def _monot5(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
    text = f"Query: {query} Document: {doc} Relevant:"
    return [*hf.encode(text, add_special_tokens=False)[: max_length - 1], hf.convert_tokens_to_ids("</s>")]


def _nemotron_rerank(hf: PreTrainedTokenizerFast, query: str, doc: str, max_length: int) -> list[int]:
    text = f"question:{query} \n \n passage:{doc}"
    begin = hf.convert_tokens_to_ids("<|begin_of_text|>")
    return [begin, *hf.encode(text, add_special_tokens=False)][:max_length]


RECIPES: dict[str, tuple[Recipe, int]] = {
    "qwen3-reranker": (_qwen3_reranker, 8192),
    "ctxl-rerank": (_ctxl_rerank, 0),
    "mxbai": (_mxbai, 8192),
    "bge-gemma": (_bge, 512),
    "bge-gemma2-lightweight": (_bge_lightweight, 512),
    "bge-minicpm": (_bge, 512),  # the same steps
    "monot5": (_monot5, 512),
    "nemotron-rerank": (_nemotron_rerank, 512),
    "rankllama": (_rankllama, 0),
    "zerank": (_zerank, 0),
}
CUT = ["qwen3-reranker", "mxbai", "bge-gemma", "bge-gemma2-lightweight", "bge-minicpm", "nemotron-rerank"]
"""Presets whose published code cuts as a bundle does."""
PAIRS = (
    ("what is it", "it is"),
    ("red shoes", "blue shoes; 12 boots"),
    ("12", "5"),
    (" spaced ", "\n\nnew line "),
    ("我们 é", "😀 's (x)"),
    ("a\nb", "<b>: B: A: query: document: "),
)


def _published(name: str) -> PreTrainedTokenizerFast:
    inner = tokenizers.Tokenizer.from_str(TOKENIZERS[name])
    begin = next((token for token in ("<bos>", "<s>") if token in inner.get_vocab()), None)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=begin)


def _encoder(name: str, most_item_tokens: int = 20_000) -> PromptEncoder:
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(TOKENIZERS[name]))
    prompt = load_prompt_file(prompt_file_of(name)).prompt
    validate_prompt(prompt, tokenizer)
    draft = ranker_draft(
        prompt=prompt,
        shape=ModelShape(hidden_size=4, vocab_size=tokenizer.vocab_size, layers=[]),
        limits=Limits(max_prefix_tokens=20_000, max_item_tokens=most_item_tokens),
        embedding=None,
        pairing=None,
    )
    return PromptEncoder(draft, tokenizer)


@pytest.mark.parametrize("name", RECIPES)
def test_a_preset_has_the_ids_of_its_published_code(name: str) -> None:
    encoder, hf = _encoder(name), _published(name)
    recipe, max_length = RECIPES[name]
    for query, doc in PAIRS:
        prefix = encoder.encode_prefix(query)
        (item,) = encoded(encoder, [doc], behind=prefix)
        assert ids(prefix) + ids(item) == recipe(hf, query, doc, max_length), (query, doc)


@pytest.mark.parametrize("name", CUT)
def test_a_preset_cuts_a_long_item_as_its_published_code(name: str) -> None:
    hf = _published(name)
    recipe, max_length = RECIPES[name]
    doc = "blue shoes, boots " * max_length
    published = recipe(hf, "red shoes", doc, max_length)
    prefix = ids(_encoder(name).encode_prefix("red shoes"))
    # The published limit is on both together, the bundle's on the item.
    (item,) = encoded(_encoder(name, len(published) - len(prefix)), [doc], truncation="truncate")
    assert item.truncated
    assert prefix + ids(item) == published


def test_monot5_asks_its_question_behind_a_passage_that_is_cut() -> None:
    (item,) = encoded(_encoder("monot5", 40), ["blue shoes, boots " * 40], truncation="truncate")
    question, hf = _encoder("monot5"), _published("monot5")
    asked = [*hf.encode(" Relevant:", add_special_tokens=False), hf.convert_tokens_to_ids("</s>")]
    assert (item.truncated, len(ids(item)), ids(item)[-len(asked) :]) == (True, 40, asked)
    assert ids(question.encode_prefix("red")) == hf.encode("Query: red Document:", add_special_tokens=False)


@pytest.mark.parametrize("name", ["mxbai", "bge-gemma", "bge-gemma2-lightweight"])
def test_a_preset_cuts_a_long_query_as_its_published_code(name: str) -> None:
    recipe, max_length = RECIPES[name]
    query = "shoesboots 12 (red) " * max_length
    prefix = _encoder(name).encode_prefix(query, truncation="truncate")
    (item,) = encoded(_encoder(name), ["it"])
    assert prefix.truncated
    assert ids(prefix) + ids(item) == recipe(_published(name), query, "it", max_length)


def test_every_preset_ships_and_names_its_labels() -> None:
    folder = PRESETS[0].file.parent
    assert sorted(file.stem for file in folder.iterdir()) == sorted(RECIPES)
    labels = {preset.name: load_prompt_file(preset.file).labels for preset in PRESETS}
    assert labels == {
        "qwen3-reranker": ["yes", "no"],
        "bge-gemma": ["Yes"],
        "bge-gemma2-lightweight": None,
        "bge-minicpm": None,
        "ctxl-rerank": ["!"],
        "mxbai": ["1", "0"],
        "monot5": ["▁true", "▁false"],
        "nemotron-rerank": None,
        "rankllama": None,
        "zerank": ["Yes"],
    }


def test_the_help_of_the_flag_lists_the_presets() -> None:
    (prompt,) = [option for option in dataclasses.fields(ExportOptions) if option.name == "prompt"]
    assert all(f"{preset.name} ({preset.models})" in prompt.metadata["help"] for preset in PRESETS)


def test_a_preset_says_where_it_was_published() -> None:
    for preset in PRESETS:
        assert "# Source: " in preset.file.read_text(encoding="utf-8")


def test_a_prompt_that_is_neither_file_nor_preset_lists_the_presets() -> None:
    with pytest.raises(
        InvalidRequest, match=r"'qwen3' is neither .* qwen3-reranker \(Qwen3-Reranker\), bge-gemma"
    ):
        prompt_file_of("qwen3")


@pytest.mark.parametrize("named", ["jina-v2", "bge-base", "bge-reranker-v2-m3"])
def test_a_pair_encoder_has_no_preset_and_is_called_a_kind_to_come(named: str) -> None:
    with pytest.raises(InvalidRequest, match=r"pair encoder.*: export it with --kind cross-encoder"):
        prompt_file_of(named)
