"""Every family of encoders, low bits and targets: under full effort, for each takes a trace."""

from pathlib import Path

import pytest

from rankport.exporters.export import export
from support.effort import FACTOR
from support.reading.taggers import tagger_checkpoint

pytestmark = pytest.mark.skipif(FACTOR == 1, reason="a trace each: make test-full")

DISENTANGLED = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "max_relative_positions": -1,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
FAMILIES: dict[str, dict[str, object]] = {
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "mpnet": {"pad_token_id": 1},
    "electra": {},
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2},
    "deberta": DISENTANGLED,
    "deberta-v2": {
        **DISENTANGLED,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_is_proven(model_type: str, tmp_path: Path) -> None:
    checkpoint = tagger_checkpoint(tmp_path / "c", model_type=model_type, **FAMILIES[model_type])
    bundle = export(checkpoint, tmp_path / "b", max_item_tokens=24)
    assert bundle.manifest.parity is not None
    assert all(map(bundle.manifest.parity.holds, bundle.manifest.parity.modes))


@pytest.mark.parametrize(
    "options",
    [
        {"quantize": "int8"},
        {"target": "onnx-cuda", "precision": "fp16"},
        {"target": "onnx-cuda", "quantize": "fp8", "fp8_products": True},
        {"target": "tensorrt", "precision": "bf16"},
        {"target": "onnx-cpu,tensorrt"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_low_bits_and_targets_are_proven(options: dict[str, object], tmp_path: Path) -> None:
    bundle = export(tagger_checkpoint(tmp_path / "c"), tmp_path / "b", max_item_tokens=24, **options)
    parities = [bundle.manifest.parity, *(bundle.manifest.target_parity or {}).values()]
    for parity in parities:
        assert parity is not None
        assert all(map(parity.holds, parity.modes))
