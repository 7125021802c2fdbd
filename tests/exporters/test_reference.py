"""`--reference`: scores that transformers gives by itself pass, and what is off in them, or in the bundle, is told.

The owner's pipeline here shares no code with rankport: transformers, the tokenizers library, and its own prompt.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForCausalLM

from rankport.exporters.kinds.ranker.proof.owner_scores import run_reference
from rankport.exporters.options.reference_file import ReferenceTransform, read_reference
from rankport.exporters.proof.agreement import AgreementLimits, OwnerAgreement
from rankport.exporters.verify import verify
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from support.cli import rankport

LIMITS = AgreementLimits(1e-3, 0.99, 0.9999)
QUERIES = ("data engineer", "senior nurse")
ITEMS = ("software engineer", "dental nurse", "chief cook of the sales manager", "pilot", "medical operator")
YES, NO = 4, 5

Owner = Callable[[str, str], float]  # query and item to a score


@pytest.fixture(scope="module")
def owner_logit(ranker_checkpoint: Path) -> Owner:
    """The owner's pipeline: logit of yes less that of no after [BOS] query <query> <item> [EOS]."""
    model = AutoModelForCausalLM.from_pretrained(ranker_checkpoint).eval()
    tokenizer = Tokenizer.from_file(str(ranker_checkpoint / "tokenizer.json"))

    def score(query: str, item: str) -> float:
        ids = torch.tensor([tokenizer.encode(f"query {query} {item}").ids])
        with torch.no_grad():
            logits = model(ids).logits[0, -1].double()
        return float(logits[YES] - logits[NO])

    return score


def written(path: Path, owner: Owner, items: Sequence[str] = ITEMS) -> Path:
    rows = [
        {"prefix": {"query": query}, "items": items, "scores": [owner(query, item) for item in items]}
        for query in QUERIES
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def probability(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def agreement(bundle: Bundle, file: Path, transform: ReferenceTransform) -> OwnerAgreement:
    with Ranker.load(bundle) as ranker:
        return run_reference(ranker, read_reference(file, "scores", transform), LIMITS, 0).agreement


@pytest.mark.parametrize("transform", ["none", "sigmoid", "rank"])
def test_the_owners_own_scores_pass(
    transform: ReferenceTransform, mix_bundle: Bundle, owner_logit: Owner, tmp_path: Path
) -> None:
    as_given = (lambda q, i: probability(owner_logit(q, i))) if transform == "none" else owner_logit
    found = agreement(mix_bundle, written(tmp_path / "scores.jsonl", as_given), transform)
    assert found.miss == ""
    assert (found.figures.requests, found.figures.items, found.figures.kendall_tau) == (2, 10, 1.0)
    if transform != "rank":
        assert found.figures.max_abs_error is not None
        assert found.figures.max_abs_error < 1e-5


def test_a_forgotten_transform_is_named(mix_bundle: Bundle, owner_logit: Owner, tmp_path: Path) -> None:
    found = agreement(mix_bundle, written(tmp_path / "scores.jsonl", owner_logit), "none")
    assert "--reference-transform sigmoid fits" in found.miss


def test_a_pipeline_of_another_prompt_is_told(mix_bundle: Bundle, owner_logit: Owner, tmp_path: Path) -> None:
    other = written(tmp_path / "scores.jsonl", lambda q, i: probability(owner_logit(f"item {q}", i)))
    miss = agreement(mix_bundle, other, "none").miss
    assert "max abs error" in miss
    assert "scores.jsonl line" in miss


def test_the_other_label_is_told(mix_bundle: Bundle, owner_logit: Owner, tmp_path: Path) -> None:
    other = written(tmp_path / "scores.jsonl", lambda q, i: probability(-owner_logit(q, i)))
    assert (
        "the order is reversed: is another label the positive one?"
        in agreement(mix_bundle, other, "none").miss
    )


def test_texts_beyond_the_limits_are_cut_and_counted(
    mix_bundle: Bundle, owner_logit: Owner, tmp_path: Path
) -> None:
    long = "pilot " * 20
    cut = " ".join(["pilot"] * 16)  # the prompt's max_tokens of an item
    file = written(
        tmp_path / "scores.jsonl",
        lambda q, i: probability(owner_logit(q, cut if i == long else i)),
        (*ITEMS, long),
    )
    found = agreement(mix_bundle, file, "none")
    assert found.miss == ""
    assert found.figures.truncated == 2


def test_verify_gates_swapped_scores_and_says_so_everywhere(
    mix_bundle: Bundle, ranker_checkpoint: Path, owner_logit: Owner, tmp_path: Path
) -> None:
    file = written(tmp_path / "scores.jsonl", lambda q, i: probability(owner_logit(q, i)))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["scores"][0], rows[1]["scores"][2] = rows[1]["scores"][2], rows[1]["scores"][0]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = rankport(
        *("verify", mix_bundle.path, "--checkpoint", ranker_checkpoint, "--reference", file),
        *("--json", tmp_path / "v.json", "--html", tmp_path / "v.html"),
    )
    assert done.returncode == 1
    assert "the bundle does not give what --reference says" in done.stderr
    assert "scores.jsonl line 2, item" in done.stderr
    said = json.loads((tmp_path / "v.json").read_text())
    assert said["passed"] is False
    assert said["agreement"]["max_abs_error"] == pytest.approx(
        abs(rows[1]["scores"][0] - rows[1]["scores"][2]), rel=1e-3
    )
    page = (tmp_path / "v.html").read_text()
    assert f"{said['agreement']['max_abs_error']:.2e}" in page
    assert "Your pipeline against the bundle" in page
    assert "Verified" not in page


def test_an_item_encoder_gives_the_owners_embeddings(
    encoder_bundle: Bundle, encoder_checkpoint: Path, tmp_path: Path
) -> None:
    model = AutoModel.from_pretrained(encoder_checkpoint).eval()
    tokenizer = Tokenizer.from_file(str(encoder_checkpoint / "tokenizer.json"))

    def embed(text: str) -> list[float]:
        with torch.no_grad():
            states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        return list(states.mean(dim=0).tolist())

    file = tmp_path / "embeddings.jsonl"
    rows = [{"item": item, "embedding": embed(item)} for item in ITEMS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    verdict = verify(encoder_bundle.path, encoder_checkpoint, reference=file)
    assert verdict.failures == ()
    found = verdict.proof.agreement
    assert found is not None
    assert found.figures.least_cosine == pytest.approx(1, abs=1e-5)
    rows[0]["embedding"] = rows[1]["embedding"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (failure,) = verify(encoder_bundle.path, encoder_checkpoint, reference=file).failures
    assert "least cosine" in failure
    assert "worst: embeddings.jsonl line 1" in failure
