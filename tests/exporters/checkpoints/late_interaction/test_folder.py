"""Folders of late interaction: each library's gives the scores of sentence-transformers, or is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.late_interaction.module import LateInteraction, LateTokens
from rankport.exporters.checkpoints.late_interaction.unseen import require_seen
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.two_tower.facts import facts_of
from rankport.exporters.kinds.two_tower.late_prompt import late_prompt
from rankport.protos.errors import CheckpointError
from rankport.protos.types import Side
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from support import late_folders as late
from support.sentence_folders import Make, then, write

QUERIES = ["cook", "a nurse, ward", "b"]
ITEMS = ["nurse, ward!", "pilot", "a (cook) b. c", "!!!", "% & ' é"]
FILLED = {"strategy": "fixed", "attend": False, "token": None, "length": late.QUERY_TOKENS}


def native(**settings: Any) -> Make:
    return lambda base, folder: late.native(base, folder, **settings)


def pylate(**config: Any) -> Make:
    return lambda base, folder: late.pylate(base, folder, **config)


def stanford(**metadata: Any) -> Make:
    return lambda base, folder: late.stanford(base, folder, **metadata)


CONFIG, MASK = "config_sentence_transformers.json", "2_MultiVectorMask/config.json"
ALIKE: dict[str, Make] = {
    "native": native(),
    "pylate": pylate(),
    "stanford": stanford(),
    "another token fills, and is seen": native(query_expansion={**FILLED, "attend": True, "token": "nurse"}),
    "up to a shorter length": native(
        query_expansion={**FILLED, "strategy": "min", "length": 5}, query_length=12
    ),
    "nothing fills": native(query_expansion=None, query_length=12),
    "prompts are texts": then(native(), CONFIG, prompts={"query": "search: ", "document": "cook "}),
    "no prompts": then(native(), CONFIG, prompts={}),
    "the mean": then(native(query_expansion=None), CONFIG, similarity_fn_name="meanmaxsim"),
    "queries skip words too": then(
        native(), MASK, skiplist_words=["nurse", ",", "unheard"], skiplist_tasks=["document", "query"]
    ),
    "pylate of old": pylate(model_type=None, do_query_expansion=None),
    "pylate fills nothing": pylate(do_query_expansion=False),
    "pylate sees what fills": pylate(attend_to_expansion_tokens=True, query_prefix="", skiplist_words=[]),
    "pylate of old says cosine": pylate(model_type=None, similarity_fn_name="cosine"),
    "stanford sees what fills": stanford(attend_to_mask_tokens=True, mask_punctuation=False),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return late.body(tmp_path_factory.mktemp("late") / "base")


@pytest.mark.parametrize("name", ALIKE)
def test_its_scores_are_those_of_sentence_transformers(name: str, base: Path, tmp_path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    folder = ALIKE[name](base, tmp_path / "folder")
    assert StatedModel.read(folder).head == "towers"
    ours = scores(folder)
    own = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
    theirs = own.similarity(own.encode_query(QUERIES), own.encode_document(ITEMS)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert len(np.unique(theirs.round(4))) == theirs.size  # no two alike by chance


def scores(folder: Path) -> NDArray[np.float32]:
    """Scores texts by the module in torch, read by the prompt of its bundle. [queries, items]"""
    source = load_checkpoint(folder)
    module = source.model
    assert isinstance(module, LateInteraction)
    assert source.notes == ()
    resolved = late_prompt(source, module.form)
    tokenizer = resolved.tokenizer
    assert tokenizer is not None
    query = [
        Segment(item=True, joined=part.joined) if part.field else part for part in resolved.prompt.prefix
    ]
    segments: dict[Side, list[Segment]] = {"query": query, "item": resolved.prompt.item}

    def vectors(text: str, side: Side) -> torch.Tensor:
        compiled = CompiledPrompt.of(Prompt(prefix=[], item=segments[side]), tokenizer)
        ids = torch.from_numpy(compiled.ids([], text, tokenizer))[None]
        return module.represent(ids, torch.ones_like(ids), side)[0]

    with torch.no_grad():
        asked = [vectors(text, "query") for text in QUERIES]
        items = [vectors(text, "item")[None] for text in ITEMS]
        logits = [[float(module.score(query, item)) for item in items] for query in asked]
    return np.array(logits, np.float32)


REFUSED: dict[str, tuple[Make, str]] = {
    "a module that pools": (
        lambda base, folder: _with_module(late.native(base, folder), "HierarchicalTokenPooling"),
        "has a HierarchicalTokenPooling module, which the graph of an encoder of several vectors lacks",
    ),
    "tokens of images": (
        then(native(), MASK, keep_only_token_ids=[3]),
        "keep_only_token_ids .3. is not known here",
    ),
    "a floor without a ceiling": (
        native(query_expansion={**FILLED, "strategy": "min"}),
        "strategy 'min' fills queries of no longest length: say query_length",
    ),
    "a ceiling below the floor": (native(query_length=4), "length 10 is above query_length, 4: lower it"),
    "another similarity": (then(native(), CONFIG, similarity_fn_name="cosine"), "'cosine' is not supported"),
    "a default prompt": (
        then(native(), CONFIG, default_prompt_name="query"),
        "default_prompt_name 'query' is none of encode_query and encode_document: set null",
    ),
    "a passage": (
        then(native(), CONFIG, prompts={"query": "", "passage": "cook "}),
        "has passage in the place of document: name it so",
    ),
    "a setting of nobody": (pylate(head="x"), "head 'x' is not known here: remove it if it changes no score"),
    "prompts beside marks": (pylate(prompts={"query": "find: "}), "clear them"),
    "a mark that is no token": (
        pylate(query_prefix="[X] "),
        "the mark '\\[X\\] ' is no token of tokenizer.json",
    ),
    "euclidean": (stanford(similarity="l2"), "similarity 'l2' is not supported: only cosine is"),
    "lengths beyond positions": (
        pylate(document_length=41),
        "an? item may have 41 tokens.* end at 40: lower it",
    ),
    "no token to fill with": (
        native(query_expansion={**FILLED, "token": "[NONE]"}),
        "filled with '\\[NONE\\]', which the tokenizer lacks",
    ),
    "fills at the left": (
        then(native(), "tokenizer_config.json", padding_side="left"),
        "padding_side 'left' of tokenizer_config.json fills queries at their left",
    ),
    "is told to fill at the left": (
        native(processor_kwargs={"padding_side": "left"}),
        "processor_kwargs: padding_side 'left' fills queries at their left",
    ),
    "lengths in the place of another library": (
        then(pylate(), "sentence_bert_config.json", query_length=6),
        "has query_length.* which PyLate reads in config_sentence_transformers.json",
    ),
    "parts of a score": (stanford(interaction="flipr"), "interaction 'flipr' is not supported"),
    "stanford cuts at the left": (
        then(stanford(), "tokenizer_config.json", truncation_side="left"),
        "cuts texts at their left, and with them the mark",
    ),
    "cuts at the left": (
        then(native(), "tokenizer_config.json", truncation_side="left"),
        "cuts texts at their left, and with them the mark",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_bundle_lacks_is_refused_by_name(name: str, base: Path, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    folder = make(base, tmp_path / "folder")
    with pytest.raises(CheckpointError, match=message):
        read(folder)


def read(folder: Path) -> None:
    """Takes all that a plan takes of a folder."""
    source = load_checkpoint(folder)
    facts_of(source)
    assert isinstance(source.model, LateInteraction)
    late_prompt(source, source.model.form)


def test_the_limit_of_a_tokenizer_ends_with_the_positions(base: Path, tmp_path: Path) -> None:
    folder = then(native(document_length=None), "tokenizer_config.json", model_max_length=512)(
        base, tmp_path / "folder"
    )
    assert facts_of(load_checkpoint(folder)).max_item_tokens == 40


def test_an_item_without_a_vector_is_below_all(base: Path, tmp_path: Path) -> None:
    model = load_checkpoint(late.native(base, tmp_path / "folder")).model
    assert isinstance(model, LateInteraction)
    items = torch.zeros(2, 3, late.VECTOR)
    items[1, 0, 0] = -2.0
    query = torch.tensor([[1.0], [0.5], [0.0]]) @ torch.eye(late.VECTOR)[:1]
    assert model.score(query, items).tolist() == [[-1e9], [-3.0]]


def test_a_body_alone_says_that_the_projection_is_left_out(base: Path, tmp_path: Path) -> None:
    body = load_checkpoint(late.stanford(base, tmp_path / "folder"), head="none")
    assert body.notes == ("left out: linear.weight of ColBERT, no part of the body",)


def test_a_projection_that_is_missing_is_named(base: Path, tmp_path: Path) -> None:
    folder = late.stanford(base, tmp_path / "folder")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"lacks tensor 'linear\.weight', the projection of ColBERT"):
        load_checkpoint(folder)


def _with_module(folder: Path, kind: str) -> Path:
    modules = json.loads((folder / "modules.json").read_text())
    place = "sentence_transformers.multi_vector_encoder.modules.token_pooling"
    write(folder, "modules.json", [*modules, {"idx": 4, "name": "4", "path": "4", "type": f"{place}.{kind}"}])
    return folder


def test_what_fills_a_query_and_sees_none_of_it_is_refused(base: Path, tmp_path: Path) -> None:
    narrow = load_checkpoint(
        late.pylate(late.modern_body(base, tmp_path / "a", window=8), tmp_path / "narrow")
    )
    wide = load_checkpoint(late.pylate(late.modern_body(base, tmp_path / "b", window=32), tmp_path / "wide"))
    assert isinstance(narrow.model, LateInteraction)
    assert isinstance(wide.model, LateInteraction)
    with pytest.raises(CheckpointError, match="filled to 10 tokens, some of which see no token of the query"):
        require_seen(narrow.model)
    ids = torch.tensor([[2, 5, 9, 3]])
    before = wide.model.represent(ids, torch.ones_like(ids), "query")
    require_seen(wide.model)
    after = wide.model.represent(ids, torch.ones_like(ids), "query")
    assert torch.equal(before, after)  # by the implementation that it had
    attended = late.pylate(tmp_path / "a", tmp_path / "attended", attend_to_expansion_tokens=True)
    seen = load_checkpoint(attended)
    assert isinstance(seen.model, LateInteraction)
    require_seen(seen.model)


def test_tokens_that_the_model_has_no_row_for(base: Path, tmp_path: Path) -> None:
    source = load_checkpoint(late.native(base, tmp_path / "folder"))
    assert isinstance(source.model, LateInteraction)
    body, form = source.model.body, source.model.form
    rows = source.vocab_size
    module = LateInteraction(body, form, LateTokens(expansion=4, skipped=(rows - 1, rows, rows + 7)))
    assert module.kept.sum() == rows - 1
    with pytest.raises(CheckpointError, match=f"filled with token {rows}, and the model has rows for {rows}"):
        LateInteraction(body, form, LateTokens(expansion=rows, skipped=()))
