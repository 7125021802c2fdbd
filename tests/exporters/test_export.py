import json
from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.export import export
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest, ParityError
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from support import checkpoints
from support.effort import every_run
from support.sharing.traces import KeptTraces

IDS = {"label_ids": (4, 5), "max_prefix_tokens": 40, "max_item_tokens": 24}


def test_a_bundle_states_its_parity_in_every_mode_and_item_form(mix_bundle: Bundle) -> None:
    parity = mix_bundle.manifest.parity
    assert parity is not None
    modes = {"full_sequence", "prefix_reuse", "prefix_extension", "one_item", "many_prefixes"}
    assert {mode.mode for mode in parity.modes} == {
        f"{m}/{form}" for m in modes for form in ("text", "embeddings")
    }
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4
    assert min(mode.kendall_tau for mode in parity.modes) >= 0.999


def test_text_embedding_tokens_and_token_ids_score_in_one_request(mix_bundle: Bundle) -> None:
    hidden = mix_bundle.manifest.shape.hidden_size
    vector = np.full((1, hidden), 0.1, np.float16)
    with Ranker.load(mix_bundle) as ranker:
        result = ranker.score("data engineer", ["software engineer", [6, 7, 8], vector])
        again = ranker.score("data engineer", [vector])
    assert result.status == (ItemStatus.OK,) * 3
    assert np.all((result.scores > 0) & (result.scores < 1))
    assert np.allclose(result.logits[2], again.logits[0], atol=1e-5)
    assert again.usage.prefix_tokens_cached == 4  # [BOS] query data engineer


def test_a_score_is_the_softmax_probability_of_the_first_label(mix_bundle: Bundle) -> None:
    with Ranker.load(mix_bundle) as ranker:
        result = ranker.score("nurse", ["teacher", "pilot"])
    expected = 1 / (1 + np.exp(result.logits[:, 1] - result.logits[:, 0]))
    assert np.allclose(result.scores, expected, atol=1e-6)


def test_keys_need_a_store(mix_bundle: Bundle) -> None:
    with Ranker.load(mix_bundle) as ranker, pytest.raises(InvalidRequest, match="store"):
        ranker.score("nurse", [Key("x")])


def test_a_checkpoint_without_a_tokenizer_is_scored_by_token_ids(tmp_path: Path) -> None:
    bundle = export(
        checkpoints.causal_lm(tmp_path / "c", "llama", num_hidden_layers=1),
        tmp_path / "b",
        kind="ranker",
        **IDS,
    )
    with Ranker.load(bundle) as ranker:
        assert ranker.score([5, 6, 7], [[8, 9], [10]]).status == (ItemStatus.OK, ItemStatus.OK)
        with pytest.raises(InvalidRequest, match="tokenizer"):
            ranker.score("text", ["text"])


def test_a_classification_head_answers_with_the_label_and_kind_of_score_asked_for(tmp_path: Path) -> None:
    checkpoint = checkpoints.classifier(tmp_path / "c", "qwen2", num_labels=3, num_hidden_layers=1)
    sizes = {"max_prefix_tokens": 40, "max_item_tokens": 24}
    bundle = export(checkpoint, tmp_path / "b", kind="ranker", positive="LABEL_1", score="logit", **sizes)
    with Ranker.load(bundle) as ranker:
        result = ranker.score([5, 6], [[7], [8, 9]])
    assert result.logits.shape == (2, 3)
    first, positive, last = result.logits.T
    np.testing.assert_allclose(result.scores, positive - np.logaddexp(first, last), atol=1e-5)
    assert (result.score_kind, result.read_out) == (
        "logit",
        "log-odds over LABEL_0, LABEL_1, LABEL_2: LABEL_1",
    )


def test_two_exports_of_one_checkpoint_have_one_fingerprint(traces: KeptTraces, tmp_path: Path) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "qwen3", num_hidden_layers=1)
    with traces.anew():
        bundles = [export(checkpoint, tmp_path / name, kind="ranker", **IDS) for name in ("one", "two")]
    assert bundles[0].manifest.fingerprint == bundles[1].manifest.fingerprint


def test_a_parity_failure_leaves_nothing_at_the_output_path(ranker_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="prefix_reuse/text"):
        export(
            ranker_checkpoint, tmp_path / "b", kind="ranker", tolerance=Tolerance(max_abs_error=0.0), **IDS
        )
    assert list(tmp_path.iterdir()) == []


def test_verify_repeats_the_proof_and_counts_what_fails(ranker_checkpoint: Path, mix_bundle: Bundle) -> None:
    assert verify(mix_bundle.path, ranker_checkpoint).failures == ()
    strict = verify(mix_bundle.path, ranker_checkpoint, tolerance=Tolerance(max_abs_error=0.0))
    assert len(strict.failures) == 1
    assert "many_prefixes/embeddings" in strict.failures[0]


def test_verify_refuses_another_checkpoint(
    encoder_checkpoint: Path, mix_bundle: Bundle, tmp_path: Path
) -> None:
    other = checkpoints.causal_lm(tmp_path, "qwen3", head_dim=20, intermediate_size=40)
    with pytest.raises(CheckpointError, match="sha256"):
        verify(mix_bundle.path, other)


def test_judged_requests_add_ndcg_of_source_and_bundle(
    ranker_checkpoint: Path, prompt_file: Path, tmp_path: Path
) -> None:
    judged = tmp_path / "judged.jsonl"
    row = {
        "prefix": "data engineer",
        "items": ["software engineer", "nurse", "chief cook"],
        "gains": [2, 0, 1],
    }
    judged.write_text(json.dumps(row) + "\n")
    bundle = export(ranker_checkpoint, tmp_path / "b", kind="ranker", prompt=prompt_file, judged=judged)
    quality = bundle.manifest.quality
    assert quality is not None
    assert quality.requests == 1
    assert quality.ndcg_at_10_bundle == pytest.approx(quality.ndcg_at_10_source)
    assert bundle.manifest.tokenization is not None
    assert bundle.manifest.tokenization.source == "judged requests"


@pytest.mark.parametrize("pooling", every_run(["last-k", "max", "mean"], {"last-k"}))
def test_a_decoder_encodes_items_with_each_pooling(pooling: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.body(tmp_path / "c", "qwen3", num_hidden_layers=1)
    options = {"tokens": 3} if pooling == "last-k" else {}
    bundle = export(
        checkpoint,
        tmp_path / "b",
        kind="item-encoder",
        pooling=pooling,
        output_dtype="float32",
        normalize=True,
        **options,
    )
    with ItemEncoder.load(bundle) as encoder:
        tokens = encoder.encode([[5, 6, 7, 8], [9]])
    assert tokens.shape == (2, 3 if pooling == "last-k" else 1, 32)
    assert tokens.dtype == np.float32
    assert np.allclose(np.linalg.norm(tokens, axis=-1), 1, atol=1e-5)


def test_encoding_depends_on_no_batch_mate(encoder_bundle: Bundle) -> None:
    texts = ["nurse", "senior data engineer", "the chief cook of the sales manager"]
    with ItemEncoder.load(encoder_bundle) as encoder:
        together = encoder.encode(texts)
        alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert together.dtype == np.float16
    assert np.abs(together.astype(np.float32) - alone).max() < 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "ranker"}, "labels"),
        ({"kind": "ranker", "labels": ("yes", "data engineer")}, "2 tokens"),
        ({"kind": "ranker", "label_ids": (5, 101)}, "101"),
        ({"kind": "ranker", "label_ids": (5, 5)}, "of its own"),
        ({"kind": "ranker", "labels": ("yes",), "label_ids": (5,)}, "not both"),
        (
            {"kind": "ranker", "pooling": "mean", "label_ids": (5, 6)},
            "--pooling belongs to --kind item-encoder",
        ),
        ({"kind": "item-encoder", "judged": "x"}, "--judged belongs to --kind ranker"),
        ({"kind": "mix-ranker", "label_ids": (5, 6)}, "--kind ranker --item-encoder ENCODER"),
        ({"kind": "ranker", "label_ids": (5, 6), "embedding_tokens": 1}, "--item-encoder"),
        ({"kind": "item-encoder"}, "--pooling"),
        ({"kind": "reranker"}, "reranker"),
        ({"kind": "ranker", "lables": ("yes",)}, "lables"),
    ],
)
def test_a_wrong_option_is_named(
    options: dict[str, object], message: str, ranker_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises((InvalidRequest, CheckpointError), match=message):
        export(ranker_checkpoint, tmp_path / "b", **options)
    assert list(tmp_path.iterdir()) == []
