"""Condition of a graph of padded texts: what stands behind a text must not change the answer to it.

An attention mask hides padding from attention alone. A layer that mixes neighbours or whole sequences otherwise, by a
convolution, a Fourier transform or pooled pairs, takes padding in, and a text's answer depends on who shares its pass.
"""

from collections.abc import Sequence

import torch
from torch import nn

from rankport.protos.errors import CheckpointError

_SHORT, _LONG = 5, 12
_LARGEST, _LEAST = 1e-3, 1e-4
"""Change of an answer above which padding is in it: a share of its largest value, and a difference. Rounding moves it
far less, and what stays below the parity measures."""


def require_blind_to_padding(module: nn.Module, inputs: Sequence[str], architecture: str) -> None:
    """Checks a module of padded texts by one text, alone and beside a longer one.

    `inputs` are the names of its forward's. Does nothing for a module that cannot be run so: its trace says why.

    Raises CheckpointError for one whose answers differ.
    """
    ids = torch.tensor([[4, 3, 2, 4, 3, 2, 4, 3, 2, 4, 3, 2], [2, 3, 4, 3, 2, 0, 0, 0, 0, 0, 0, 0]])
    mask = (torch.arange(_LONG) < torch.tensor([[_LONG], [_SHORT]])).long()
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        try:
            together = module(**{name: given[name] for name in inputs})[1]
            alone = module(**{name: given[name][1:, :_SHORT] for name in inputs})[0]
        except Exception:  # the model's code raises whatever it likes
            return
    if alone.shape != together.shape:  # an answer for each token
        together = together[: len(alone)]
    moved, largest = float((alone - together).abs().max()), float(alone.abs().max())
    if moved > max(_LARGEST * largest, _LEAST):
        raise CheckpointError(
            f"{architecture} answers a text otherwise when padding stands behind it (by {moved / largest:.1%} of its "
            "largest value): some layer of it reads neighbours or whole sequences past the attention mask, as "
            "convolutions, Fourier transforms and pooled tokens do, and passes of texts of many lengths cannot be "
            "exact: use another model, or serve this one by its own library, unpadded"
        )
