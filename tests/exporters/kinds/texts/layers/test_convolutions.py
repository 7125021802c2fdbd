"""Convolutions over padded texts: a ConvBERT answers each text as alone, whatever stands behind it."""

from pathlib import Path

import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.texts.layers.convolutions import convolutions_within_texts
from support import checkpoints

LENGTHS = (11, 4, 7)


def test_texts_of_a_convbert_end_where_they_end_by_themselves(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "convbert", num_hidden_layers=2, conv_kernel_size=5)
    model = load_checkpoint(folder, head="none").model
    ids = torch.randint(0, 99, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(11) < torch.tensor(LENGTHS)[:, None]).long()
    with torch.no_grad():
        alone = [
            model(input_ids=row[None, :size]).last_hidden_state[0]
            for row, size in zip(ids, LENGTHS, strict=True)
        ]
        leaking = model(input_ids=ids, attention_mask=mask).last_hidden_state
        with convolutions_within_texts(model):
            together = model(input_ids=ids, attention_mask=mask).last_hidden_state
            whole = model(input_ids=ids[:1]).last_hidden_state[0]  # no mask: nothing is padding
        after = model(input_ids=ids, attention_mask=mask).last_hidden_state
    for row, own in zip(together, alone, strict=True):
        torch.testing.assert_close(row[: len(own)], own, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole, alone[0])
    assert (leaking[1, :4] - alone[1]).abs().max() > 1e-2
    assert torch.equal(after, leaking)
