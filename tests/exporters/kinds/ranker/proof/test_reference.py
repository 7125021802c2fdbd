"""The reference is the public forward of transformers' class, and samples reach where heads read differently."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.exporters.kinds.ranker.proof.reference import RankerReference
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.runtime.bundle.manifest import Limits
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support import checkpoints

END = 9


def run(*ids: int, embeddings: Any = None) -> TokenRun:
    return TokenRun(np.array(ids, np.int64), embeddings)


def classifier(folder: Path, **overrides: Any) -> Checkpoint:
    fields = {"num_labels": 2, "num_hidden_layers": 1, "eos_token_id": END} | overrides
    return load_checkpoint(checkpoints.classifier(folder, "qwen2", **fields))


def logits_of(checkpoint: Checkpoint, **inputs: torch.Tensor) -> Any:
    model: Any = checkpoint.model
    return model(**inputs).logits[0].numpy()


HEAD = ReadOut("classification_head", (0, 1))


def test_a_head_is_read_where_transformers_reads_it(tmp_path: Path) -> None:
    checkpoint = classifier(tmp_path, pad_token_id=END)
    items = [run(4, END), run(5, END), run(4), run(4, END, END), run(END, 6)]
    ours = RankerReference(checkpoint, HEAD).logits(run(1, 2, 3), items)
    theirs = [
        logits_of(checkpoint, input_ids=torch.tensor([[1, 2, 3, *item.ids.tolist()]])) for item in items
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(ours[0], ours[2], atol=1e-6)  # padding behind the token that is read
    np.testing.assert_allclose(ours[0], ours[3], atol=1e-6)


@pytest.mark.parametrize("pad", [END, None])
def test_embedding_tokens_are_read_at_the_last_one_with_and_without_padding(
    tmp_path: Path, pad: int | None
) -> None:
    checkpoint = classifier(tmp_path, pad_token_id=pad)
    table: Any = checkpoint.model.get_input_embeddings()  # type: ignore[operator]
    vectors = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
    items = [run(EMBEDDED, END, embeddings=vectors[:1]), run(EMBEDDED, END, embeddings=vectors[1:])]
    ours = RankerReference(checkpoint, HEAD).logits(run(1, 2), items)
    for row, vector in zip(ours, vectors, strict=True):
        parts = [table(torch.tensor([1, 2])), torch.tensor(vector)[None], table(torch.tensor([END]))]
        theirs = logits_of(checkpoint, inputs_embeds=torch.cat(parts)[None])
        np.testing.assert_allclose(row, theirs, atol=1e-6)


def test_samples_end_in_the_tokens_that_heads_may_pass_over() -> None:
    limits = Limits(max_prefix_tokens=40, max_item_tokens=24)
    requests = sample_requests(101, 32, limits, None, ends=(END, 2))
    items = [item.ids.tolist() for request in requests for item in request.items]
    assert {item[-1] for item in items} >= {END, 2}
    assert any(item[-1] in (END, 2) and item[-2] in (END, 2) for item in items)
    assert sum(item[-1] not in (END, 2) for item in items) > len(items) / 4
    assert all(item[0] not in (END, 2) for item in items)
