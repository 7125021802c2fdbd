"""A module of one's own through the steps of any export, by its two methods."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rankport.exporters.own_towers import export_towers, verify_towers
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.sections.wide import WideFeature
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.two_tower.towers import Towers
from support.checkpoints import VOCABULARY, tiny_tokenizer
from support.reading.two_towers import two_tower

FEATURES = (WideFeature(name="bm25", scaling="mean-std", mean=2.0, std=4.0, nan=2.0), "clicks")


class BagTowers(nn.Module):
    """The mean word, through a matrix a side; |q - i| and the features through another."""

    def __init__(self, outputs: int = 1, width: int = 5) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(VOCABULARY, 6)
        self.sides = nn.ModuleDict({side: nn.Linear(6, width) for side in ("query", "item")})
        self.out = nn.Linear(width + 2, outputs)

    def represent(self, input_ids: Tensor, attention_mask: Tensor, side: str) -> Tensor:
        weights = attention_mask.to(torch.float32)[:, None, :]
        mean = (weights @ self.words(input_ids))[:, 0] / weights.sum(dim=-1)
        return torch.tanh(self.sides[side](mean))

    def score(self, query: Tensor, items: Tensor, features: Tensor | None) -> Tensor:
        assert features is not None
        return self.out(torch.cat([(query[None] - items).abs(), features], dim=1))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_tokenizer().save(str(file))
    return file


@pytest.fixture(scope="module")
def bundle(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("own") / "bag.bundle"
    return export_towers(
        BagTowers(), out, tokenizer=tokenizer, vocab_size=VOCABULARY, features=FEATURES, score="probability"
    )


def test_it_answers_as_the_module(bundle: Bundle) -> None:
    module = BagTowers()
    ids = {
        text: torch.tensor([tiny_tokenizer().encode(text).ids]) for text in ("nurse", "senior cook", "data")
    }
    ones = {text: torch.ones_like(run) for text, run in ids.items()}
    with torch.no_grad():
        query = module.represent(ids["nurse"], ones["nurse"], "query")[0]
        items = torch.cat(
            [module.represent(ids[text], ones[text], "item") for text in ("senior cook", "data")]
        )
        logits = module.score(query, items, torch.tensor([[(6.0 - 2) / 4, 1.0], [0.0, -1.0]]))
    with Towers.load(bundle, config=EngineConfig(threads=1)) as towers:
        features = {"clicks": [1.0, -1.0], "bm25": [6.0, float("nan")]}
        result = towers.score("nurse", ["senior cook", "data"], features=features)
    np.testing.assert_allclose(result.logits, logits.numpy(), atol=1e-6)
    np.testing.assert_allclose(result.scores, torch.sigmoid(logits)[:, 0].numpy(), atol=1e-6)
    source = bundle.manifest.source
    assert (source.architecture, source.model_type, source.dtype) == ("BagTowers", "module", "float32")
    assert bundle.manifest.parity is not None
    modes = {mode.mode for mode in bundle.manifest.parity.modes}
    assert modes >= {"query_alone", "item_batch", "score", "features_nan", "order", "end_to_end"}


def test_it_is_verified_against_the_module_alone(bundle: Bundle, tokenizer: Path) -> None:
    module = BagTowers()
    assert verify_towers(bundle.path, module, tokenizer=tokenizer).failures == ()
    with torch.no_grad():
        module.out.weight += 0.5
    with pytest.raises(
        CheckpointError, match=r"the bundle was exported from .*: give the module, tokenizer, "
    ):
        verify_towers(bundle.path, module, tokenizer=tokenizer)
    with pytest.raises(InvalidRequest, match="verify_towers has no option 'speed': there are base, "):
        verify_towers(bundle.path, module, tokenizer=tokenizer, speed=1)
    with pytest.raises(InvalidRequest, match="base is of a checkpoint's folder"):
        verify_towers(bundle.path, module, tokenizer=tokenizer, base="folder")


class Narrow(BagTowers):
    """One that forgets its items."""

    def score(self, query: Tensor, items: Tensor, features: Tensor | None) -> Tensor:
        return query[None, :1]


BAD: dict[str, tuple[nn.Module, dict[str, Any], str]] = {
    "no towers": (nn.Linear(1, 1), {}, "give a torch.nn.Module with the methods represent"),
    "reference": (two_tower(), {}, "save it, and export its folder"),
    "vocabulary": (BagTowers(), {"features": FEATURES}, "vocab_size is missing: without a tokenizer"),
    "outputs": (BagTowers(2), {"features": FEATURES, "vocab_size": 9}, r"score gives \[2, 2\] of 2 items"),
    "shape": (Narrow(), {"features": FEATURES, "vocab_size": 9}, r"score gives \[1, 1\] of 2 items"),
    "names": (BagTowers(), {"outputs": ("a", "a")}, "give each logit a name of its own"),
    "positive": (BagTowers(), {"positive": 1}, "positive is 1: must be a place in the 1 outputs"),
    "features": (BagTowers(), {"features": ("a", "a")}, "features name 'a' twice"),
    "quantize": (BagTowers(), {"quantize": "int8"}, "quantize: a module of one's own is exported as it is"),
    "score": (BagTowers(), {"score": "rank"}, "--score is 'rank': use one of logit, probability, cosine"),
    "one name": (BagTowers(), {"features": "bm25"}, r"features is 'bm25': give a list of names, \['bm25'\]"),
    "one output": (BagTowers(), {"outputs": "good"}, r"outputs is 'good': give a list of names, \['good'\]"),
    "no ids": (BagTowers(), {"vocab_size": -3}, "--vocab-size is -3: must be a whole number from 1 on"),
    "no query": (BagTowers(), {"max_query_tokens": 0}, "--max-query-tokens is 0: must be a whole number"),
    "base": (BagTowers(), {"base": "folder"}, "base is of a checkpoint's folder, and a module is given"),
    "code": (BagTowers(), {"ignore_remote_code": True}, "ignore_remote_code is of a checkpoint's folder"),
    "option": (BagTowers(), {"pooling": "mean"}, "--pooling belongs to --kind"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_told_before_a_trace(name: str, tmp_path: Path) -> None:
    module, options, message = BAD[name]
    with pytest.raises(InvalidRequest, match=message):
        export_towers(module, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
