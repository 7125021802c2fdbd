from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.read_out import resolve_labels
from rankport.protos.errors import InvalidRequest
from rankport.runtime.prompt.tokenizer import Tokenizer
from support import checkpoints


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoints.causal_lm(tmp_path / "c", "qwen2", tokenizer=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("yes", "zebra"), "'zebra' is not in the vocabulary"), (("yes", "data engineer"), "2 tokens")],
)
def test_a_label_must_be_one_known_token(labels: tuple[str, ...], message: str, checkpoint: Path) -> None:
    options = RankerOptions(labels=labels)
    tokenizer = Tokenizer.from_file(checkpoint / "tokenizer.json")
    with pytest.raises(InvalidRequest, match=message):
        resolve_labels(load_checkpoint(checkpoint), options, None, tokenizer)
