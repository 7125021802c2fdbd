"""Starts of new rows: mean, random or grounded in the texts of their pairs.

    random    N(0, s^2) per value, s the standard deviation of the pretrained rows
    mean      the pretrained mean m plus N(0, 1e-9 v) per value, v the pretrained variances: what transformers'
              resize_token_embeddings does, with the diagonal of the covariance
    grounded  m + r (t_i - t) / |t_i - t|: t_i the mean pretrained row over the texts paired with token i, t the mean of
              all t_i, r the root mean square of |row - m| over pretrained rows. Plain text means t_i lie close to one
              another, as common words outweigh the others; what sets them apart is kept and brought to common length.

A token that no text is paired with starts at the mean.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rankport.exporters.vocabulary.diagnostics.spectrum import blocks
from rankport.exporters.vocabulary.grounding.objective import EncodedPair
from rankport.exporters.vocabulary.new_rows import NewRows

Init = Literal["grounded", "mean", "random"]
_NOISE = 1e-9  # share of the variance


def start_rows(init: Init, old: Tensor, rows: NewRows, pairs: Sequence[EncodedPair], seed: int) -> Tensor:
    """Makes first values of new rows, [new rows, hidden] float32, from the pretrained rows `old` [old rows, hidden]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows.count, old.shape[1], generator=generator)
    mean, variance = _moments(old)
    if init == "random":
        return noise * (variance + mean**2).mean().sqrt()
    centred = mean + noise * (_NOISE * variance).sqrt()
    if init == "mean":
        return centred
    texts, seen = text_means(old, rows, pairs)
    apart = texts - texts[seen].mean(0) if bool(seen.any()) else texts
    length = variance.sum().sqrt()
    grounded = mean + length * torch.nn.functional.normalize(apart, dim=1)
    return torch.where(seen[:, None], grounded, centred)


def text_means(old: Tensor, rows: NewRows, pairs: Sequence[EncodedPair]) -> tuple[Tensor, Tensor]:
    """Averages over the paired texts the mean pretrained row of each; says which new rows have one.

    [new rows, hidden] float32, [new rows] bool
    """
    sums = torch.zeros(rows.count, old.shape[1])
    counts = torch.zeros(rows.count)
    for pair in pairs:
        ids = torch.tensor([row for row in pair.text if row < rows.first], dtype=torch.int64)
        if len(ids):
            codes = torch.tensor(pair.tokens) - rows.first
            sums.index_add_(0, codes, old[ids].float().mean(0).expand(len(codes), -1))
            counts.index_add_(0, codes, torch.ones(len(codes)))
    return sums / counts.clamp(min=1)[:, None], counts > 0


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Computes mean and variance of each column. [hidden] each"""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for block in blocks(rows):
        total += block.sum(0, dtype=torch.float64)
        squares += block.double().square().sum(0)
    mean = total / len(rows)
    return mean.float(), (squares / len(rows) - mean**2).clamp(min=0).float()
