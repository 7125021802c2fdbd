"""Models whose answers depend on what stands behind a text are refused before a trace."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rankport.exporters.export import export
from rankport.exporters.kinds.texts.padding import require_blind_to_padding
from rankport.exporters.quantization.activation import Activation
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.exporters.quantization.weight import QuantizedWeight
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.reading.pair_encoders import pair_classifier
from support.reading.taggers import tagger_checkpoint

INPUTS = ("input_ids", "attention_mask")
REFUSED = (
    r"{} answers a text otherwise when padding stands behind it \(by .*%.*serve this one by its own library"
)


class Sum(nn.Module):
    """Adds ids up, all of them or those of the text; one of a pass's answers, or a token's, is [labels]."""

    def __init__(self, *, masked: bool, by_token: bool = False) -> None:
        super().__init__()
        self.masked, self.by_token = masked, by_token

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        ids = (input_ids + 1) * (attention_mask if self.masked else 1)
        total = ids.sum(dim=1, keepdim=True).float()
        return (total[:, None] * torch.ones_like(ids)[..., None]) if self.by_token else total


@pytest.mark.parametrize("by_token", [False, True])
def test_padding_is_told_from_the_text(by_token: bool) -> None:
    require_blind_to_padding(Sum(masked=True, by_token=by_token), INPUTS, "Sum")
    with pytest.raises(CheckpointError, match=REFUSED.format("Sum")):
        require_blind_to_padding(Sum(masked=False, by_token=by_token), INPUTS, "Sum")


class Edge(nn.Module):
    """Multiplies a state that lies at the edge of two codes, and which the last bits of a sum move to either side."""

    def __init__(self) -> None:
        super().__init__()
        weight = QuantizedWeight(torch.ones(1, 2, dtype=torch.int8), torch.ones(1, 1), None, 8)
        self.layer = QuantizedLinear(weight, None, Activation("int8-token"))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.full_like(input_ids[:, 0], input_ids.shape[1])
        edge = 0.5 + 1e-5 * (places - 8).sign()
        return self.layer(torch.stack([torch.full_like(edge, 127.0), edge], dim=1))


def test_a_rounding_that_flips_is_no_padding() -> None:
    module = Edge()
    long, short = (torch.zeros(1, length, dtype=torch.int64) for length in (12, 5))
    assert float(module(long, long)) - float(module(short, short)) == 1
    require_blind_to_padding(module, INPUTS, "Edge")
    assert module.layer.activation is not None


class Wants(nn.Module):
    """Raises what it was made with, on texts of more than `most` tokens."""

    def __init__(self, error: Exception, most: int = 0, rope_type: object = "default") -> None:
        super().__init__()
        self.error, self.most, self.rope_type = error, most, rope_type

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if input_ids.shape[1] > self.most:
            raise self.error
        return input_ids.float()


def test_a_module_that_does_not_run_on_a_text_says_so_in_its_own_words() -> None:
    with pytest.raises(
        CheckpointError,
        match=r"Wants does not run on input_ids, attention_mask of a text, .*: ValueError: You have to specify bbox$",
    ):
        require_blind_to_padding(Wants(ValueError("You have to specify bbox\nmore")), INPUTS, "Wants")


def test_a_module_that_runs_on_shorter_texts_is_left_to_its_trace() -> None:
    require_blind_to_padding(Wants(IndexError("position 5"), most=4), INPUTS, "Wants")


@pytest.mark.parametrize(
    "rope_type", ["dynamic", "longrope", {"full_attention": "default", "other": "dynamic"}]
)
def test_frequencies_that_follow_the_longest_text_are_refused(rope_type: object) -> None:
    with pytest.raises(
        CheckpointError, match=r"Wants: rotary frequencies of rope_type '.*' follow the longest text"
    ):
        require_blind_to_padding(Wants(ValueError(), 99, rope_type), INPUTS, "Wants")
    require_blind_to_padding(Wants(ValueError(), 99), INPUTS, "Wants")


@pytest.mark.parametrize("model_type", ["fnet", "funnel"])
def test_what_mixes_whole_sequences_is_no_item_encoder(model_type: str, tmp_path: Path) -> None:
    name = {"fnet": "FNetModel", "funnel": "FunnelModel"}[model_type]
    folder = checkpoints.body(tmp_path / "c", model_type, architectures=[name])
    with pytest.raises(CheckpointError, match=REFUSED.format(name)):
        export(folder, tmp_path / "b", kind="item-encoder", pooling="mean")


def test_heads_over_pairs_and_tokens_are_refused_alike(tmp_path: Path) -> None:
    pairs = pair_classifier(tmp_path / "p", "fnet", num_labels=1)
    with pytest.raises(CheckpointError, match=REFUSED.format("FNetForSequenceClassification")):
        export(pairs, tmp_path / "b", kind="cross-encoder")
    tokens = tagger_checkpoint(tmp_path / "t", model_type="fnet")
    with pytest.raises(CheckpointError, match=REFUSED.format("FNetForTokenClassification")):
        export(tokens, tmp_path / "b", kind="tagger")
