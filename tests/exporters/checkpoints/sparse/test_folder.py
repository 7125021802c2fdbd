"""Folders of sparse encoders: each gives the weights and scores of sentence-transformers, or is refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.content_hash import checkpoint_sha256
from rankport.exporters.checkpoints.sparse.module import SparseEncoder
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.two_tower.facts import facts_of
from rankport.exporters.kinds.two_tower.sparse_prompt import sparse_prompt
from rankport.protos.errors import CheckpointError
from rankport.protos.types import Side
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from support import sparse_folders as sparse
from support.sentence_folders import Make, change, then, write

QUERIES = ["cook", "a nurse, ward nurse", "zz"]
ITEMS = ["nurse, ward", "pilot", "a cook b c", "a b c d e f g h", "zz zz"]
CONFIG, BESIDE = "config_sentence_transformers.json", "sentence_bert_config.json"


def native(pooling: dict[str, Any] | None = None, **config: Any) -> Make:
    return lambda base, folder: sparse.native(base, folder, pooling, **config)


def legacy(**config: Any) -> Make:
    return lambda base, folder: sparse.legacy(base, folder, **config)


def routed(**config: Any) -> Make:
    return lambda base, folder: sparse.routed(base, folder, **config)


PROMPTS = {"query": "query: ", "document": "a "}
ALIKE: dict[str, Make] = {
    "plain masked LM": lambda base, folder: Path(shutil.copytree(base, folder)),
    "native": native(),
    "native, prompts, cosine": native(prompts=PROMPTS, similarity_fn_name="cosine"),
    "native, the largest three": native(max_active_dims=3),
    "sum of one logarithm": native({"pooling_strategy": "sum", "embedding_dimension": len(sparse.WORDS)}),
    "largest of two": native({"pooling_strategy": "max", "activation_function": "log1p_relu"}),
    "legacy": legacy(),
    "routed": routed(),
    "routed, prompts, the largest two": routed(prompts=PROMPTS, max_active_dims=2),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sparse.masked_lm(tmp_path_factory.mktemp("sparse") / "base")


def rows_of(source: Any, prompt: Prompt, tokenizer: Any, side: Side, texts: list[str]) -> torch.Tensor:
    """Reads texts by the prompt's segments, and weighs each alone."""
    segments = prompt.item if side == "item" else prompt.prefix
    framed = Prompt(
        prefix=[], item=[Segment(item=True, joined=each.joined) if each.field else each for each in segments]
    )
    compiled = CompiledPrompt.of(framed, tokenizer)
    made = []
    for text in texts:
        ids = torch.tensor(compiled.ids([], text, tokenizer))[None]
        made.append(source.model.represent(ids, torch.ones_like(ids), side))
    return torch.cat(made)


@pytest.mark.parametrize("case", ALIKE)
def test_weights_and_scores_are_those_of_sentence_transformers(case: str, base: Path, tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder as Theirs

    folder = ALIKE[case](base, tmp_path / "folder")
    source = load_checkpoint(folder, head="towers")
    assert isinstance(source.model, SparseEncoder)
    resolved = sparse_prompt(source, source.model.form)
    asked, items = (
        rows_of(source, resolved.prompt, resolved.tokenizer, side, texts)
        for side, texts in (("query", QUERIES), ("item", ITEMS))
    )
    own = Theirs(str(folder), device="cpu", local_files_only=True)
    theirs = own.encode_query(QUERIES).to_dense(), own.encode_document(ITEMS).to_dense()
    for ours, their in zip((asked, items), theirs, strict=True):
        np.testing.assert_allclose(ours, their, atol=1e-5)
        assert ((ours != 0) == (their != 0)).all()
    scores = torch.cat([source.model.score(query, items).T for query in asked])
    np.testing.assert_allclose(scores, own.similarity(*theirs), atol=1e-4)


def test_a_folder_claims_to_be_two_towers_and_a_masked_lm_alone_does_not(base: Path, tmp_path: Path) -> None:
    assert StatedModel.read(sparse.legacy(base, tmp_path / "legacy")).head == "towers"
    assert StatedModel.read(sparse.routed(base, tmp_path / "routed")).head == "towers"
    assert StatedModel.read(base).head == "none"
    assert not isinstance(load_checkpoint(base, head="none").model, SparseEncoder)


def test_limits_are_those_that_each_side_states(base: Path, tmp_path: Path) -> None:
    folder = sparse.routed(base, tmp_path / "routed")
    change(folder / sparse.STATIC, "tokenizer_config.json", model_max_length=12)
    facts = facts_of(load_checkpoint(folder, head="towers"))
    assert (facts.max_query_tokens, facts.max_item_tokens, facts.shared) == (12, 40, False)
    facts = facts_of(load_checkpoint(sparse.legacy(base, tmp_path / "legacy"), head="towers"))
    assert (facts.max_query_tokens, facts.max_item_tokens, facts.shared) == (20, 20, True)


def test_the_hash_of_a_checkpoint_has_a_routers_files(base: Path, tmp_path: Path) -> None:
    folder = sparse.routed(base, tmp_path / "routed")
    before = checkpoint_sha256(folder)
    change(folder, "router_config.json", parameters={})
    routed_otherwise = checkpoint_sha256(folder)
    save_file({"weight": torch.ones(len(sparse.WORDS))}, folder / sparse.STATIC / "model.safetensors")
    assert len({before, routed_otherwise, checkpoint_sha256(folder)}) == 3


def _weights(count: int) -> Make:
    def made(base: Path, folder: Path) -> Path:
        sparse.routed(base, folder)
        save_file({"weight": torch.ones(count)}, folder / sparse.STATIC / "model.safetensors")
        return folder

    return made


def _without_weights(base: Path, folder: Path) -> Path:
    sparse.routed(base, folder)
    (folder / sparse.STATIC / "model.safetensors").unlink()
    return folder


def _other_tokenizer(base: Path, folder: Path) -> Path:
    sparse.routed(base, folder)
    file = folder / sparse.STATIC / "tokenizer.json"
    write(folder, f"{sparse.STATIC}/tokenizer.json", {**json.loads(file.read_text()), "normalizer": None})
    return folder


def _modules(*kinds: str) -> Make:
    def made(base: Path, folder: Path) -> Path:
        sparse.native(base, folder)
        entries = json.loads((folder / "modules.json").read_text())
        behind = [
            {"idx": 2, "name": "2", "path": f"2_{kind}", "type": f"sentence_transformers.models.{kind}"}
            for kind in kinds
        ]
        write(folder, "modules.json", [*entries, *behind])
        return folder

    return made


def _structure(**routes: list[str]) -> Make:
    return then(routed(), "router_config.json", structure=routes)


BOTH = ["document_0_Transformer", "document_1_SpladePooling"]
REFUSED: dict[str, tuple[Make, str]] = {
    "similarity": (native(similarity_fn_name="euclidean"), "similarity_fn_name 'euclidean' is not supported"),
    "default prompt": (
        native(prompts=PROMPTS, default_prompt_name="query"),
        "default_prompt_name 'query' is none of encode_query and encode_document",
    ),
    "unknown setting": (native(expansion=2), "expansion 2 is not known here"),
    "pooling": (native({"pooling_strategy": "mean"}), "pooling_strategy 'mean' is none of max and sum"),
    "activation": (
        native({"activation_function": "softplus"}),
        "activation_function 'softplus' is none of relu and log1p_relu",
    ),
    "another width": (
        native({"embedding_dimension": 7}),
        "states 7 weights, and the model has logits for 19",
    ),
    "no task": (then(native(), BESIDE, transformer_task=None), "says no transformer_task"),
    "states": (
        then(native(), BESIDE, transformer_task="feature-extraction"),
        "transformer_task 'feature-extraction' only fill-mask",
    ),
    "left": (then(native(), "tokenizer_config.json", truncation_side="left"), "cuts texts at their left"),
    "too long": (
        then(native(), BESIDE, max_seq_length=41),
        "41 tokens, and the position encodings end at 40",
    ),
    "modules": (
        _modules("Normalize"),
        "reads texts by Transformer, SpladePooling, Normalize: of sparse encoders only",
    ),
    "routes": (_structure(document=BOTH), "has the routes document: only query and document"),
    "a model for queries": (
        _structure(query=BOTH, document=BOTH),
        "queries are read by Transformer, SpladePooling: only one SparseStaticEmbedding",
    ),
    "mappings": (
        then(routed(), "router_config.json", parameters={"route_mappings": {"('query', 'text')": "query"}}),
        "route_mappings .* only routes by the task",
    ),
    "weights elsewhere": (
        then(routed(), f"{sparse.STATIC}/config.json", path="idf.json"),
        "path 'idf.json' names weights of another place",
    ),
    "other weights": (_weights(7), "weighs 7 tokens, and the model of items 19"),
    "no weights": (_without_weights, "has no model.safetensors, and pickles are never loaded"),
    "tokenizers": (_other_tokenizer, "normalizer is other than in .* by one tokenizer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_weigh_otherwise_is_refused_by_name(case: str, base: Path, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    folder = make(base, tmp_path / "folder")
    with pytest.raises(CheckpointError, match=message):
        facts_of(load_checkpoint(folder, head="towers"))
