"""Check of what a comparison of logits cannot see: the probabilities that the runtime makes of them."""

from collections.abc import Iterable

import numpy as np
import torch

from rankport.exporters.proof.compare import Logits
from rankport.protos.errors import ParityError
from rankport.protos.scores import label_probabilities
from rankport.runtime.bundle.manifest import ClassHead

_ROUNDING = 1e-5
"""Largest difference of a probability in fp32 from torch's in fp64."""


def check_classes(head: ClassHead, answers: Iterable[Logits]) -> None:
    """Raises ParityError where the runtime makes other probabilities of these logits than torch does."""
    logits = np.concatenate(list(answers))
    ours = label_probabilities(logits, exclusive=head.exclusive).astype(np.float64)
    exact = torch.tensor(logits).double()
    theirs = (exact.softmax(-1) if head.exclusive else exact.sigmoid()).numpy()
    off = np.abs(ours - theirs).max(axis=1)
    if not off.max() <= _ROUNDING:
        worst = int(np.argmax(np.nan_to_num(off, nan=np.inf)))
        raise ParityError(
            f"head: the probabilities of the logits {logits[worst].tolist()} are {theirs[worst].tolist()} in torch and "
            f"{ours[worst].tolist()} in the runtime"
        )
