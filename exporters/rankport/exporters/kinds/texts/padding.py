"""Condition of a graph of padded texts: what stands behind a text must not change the answer to it.

An attention mask hides padding from attention alone. A layer that mixes neighbours or whole sequences otherwise, by a
convolution, a Fourier transform or pooled pairs, takes padding in, and a text's answer depends on who shares its pass.
"""

from collections.abc import Sequence
from textwrap import shorten

import torch
from torch import nn

from rankport.exporters.quantization.linear import unrounded_inputs
from rankport.protos.errors import CheckpointError

_SHORT, _LONG = 5, 12
_LARGEST, _LEAST = 1e-3, 1e-4
"""Change of an answer above which padding is in it: a share of its largest value, and a difference. Rounding moves it
far less, and what stays below the parity measures."""


def require_blind_to_padding(module: nn.Module, inputs: Sequence[str], architecture: str) -> None:
    """Checks a module of padded texts by one text, alone and beside a longer one.

    `inputs` are the names of its forward's. Does nothing for a module that runs on other texts than these alone.

    Raises CheckpointError for one whose answers differ, and for one that does not run on a text's inputs, in its words.
    """
    for part in module.modules():
        _require_fixed_frequencies(getattr(part, "rope_type", None), architecture)
    ids = torch.tensor([[4, 3, 2, 4, 3, 2, 4, 3, 2, 4, 3, 2], [2, 3, 4, 3, 2, 0, 0, 0, 0, 0, 0, 0]])
    mask = (torch.arange(_LONG) < torch.tensor([[_LONG], [_SHORT]])).long()
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad(), unrounded_inputs(module):
        try:
            together = module(**{name: given[name] for name in inputs})[1]
            alone = module(**{name: given[name][1:, :_SHORT] for name in inputs})[0]
        except Exception as error:  # the model's code raises whatever it likes
            _require_runs(module, inputs, architecture, error)
            return
    if alone.shape != together.shape:  # an answer for each token
        together = together[: len(alone)]
    moved, largest = float((alone - together).abs().max()), float(alone.abs().max())
    if moved > max(_LARGEST * largest, _LEAST):
        raise CheckpointError(
            f"{architecture} answers a text otherwise when padding stands behind it (by {moved / largest:.1%} of its "
            "largest value): some layer of it reads past the attention mask, as convolutions, Fourier transforms, "
            "pooled tokens and heads over the last place do, and passes of texts of many lengths cannot be exact: use "
            "another model, or serve this one by its own library, unpadded"
        )


def _require_fixed_frequencies(rope: object, architecture: str) -> None:
    kinds = rope.values() if isinstance(rope, dict) else (rope,)
    for kind in kinds:
        if isinstance(kind, str) and ("dynamic" in kind or kind == "longrope"):
            raise CheckpointError(
                f"{architecture}: rotary frequencies of rope_type {kind!r} follow the longest text of a pass, so that "
                "a text's answer depends on who shares its pass: remove rope_parameters (rope_scaling) from "
                "config.json if no text is longer than the model was trained for"
            )


def _require_runs(module: nn.Module, inputs: Sequence[str], architecture: str, error: Exception) -> None:
    """Tries a text of one token alone: what fails on that fails on all."""
    one = torch.ones(1, 1, dtype=torch.int64)
    try:
        module(**{name: torch.zeros_like(one) if name == "token_type_ids" else one for name in inputs})
    except Exception:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise CheckpointError(
            f"{architecture} does not run on {', '.join(inputs)} of a text, which is all that a bundle gives it: "
            f"{type(error).__name__}: {shorten(reason, 300)}"
        ) from error
