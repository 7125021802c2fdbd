"""Checks of what a proof of logits cannot see: that labels are named as the checkpoint names them, and what a score is.

Both sides of a proof read the labels' rows that the manifest names, and stop at logits. So names are compared with the
checkpoint's own, and the runtime's scores with torch's functions of the same logits.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.labels.heads import head_names
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.proof.compare import Logits
from rankport.protos.errors import ParityError
from rankport.protos.scores import label_scores
from rankport.runtime.bundle.manifest import Labels, Score
from rankport.runtime.prompt.tokenizer import Tokenizer

_ROUNDING = 1e-5
"""Largest difference of a score in fp32 from torch's in fp64, as a share of 1 + |score|."""


def check_labels(labels: Labels, source: Checkpoint) -> None:
    """Raises ParityError for a label that the checkpoint calls otherwise."""
    if labels.source == "classification_head":
        names = head_names(source)
        stated = {index: names[index] for index in labels.ids if index < len(names)}
        for name, index in zip(labels.names, labels.ids, strict=True):
            if stated.get(index) != name:
                raise ParityError(
                    f"labels: output {index} is named {name!r}, the checkpoint's id2label says {stated.get(index)!r}"
                )
        return
    tokenizer = tokenizer_of(source.tokenizer_file)
    if tokenizer is None:
        return
    for name, token in zip(labels.names, labels.ids, strict=True):
        if not _is_named(name, token, tokenizer):
            raise ParityError(
                f"labels: {name!r} is read from token {token}, which the checkpoint's tokenizer writes "
                f"{tokenizer.decode([token])!r}"
            )


def check_scores(labels: Labels, score: Score, answers: Iterable[Logits]) -> None:
    """Raises ParityError where the runtime makes other scores of these logits than torch does."""
    logits = np.concatenate(list(answers))
    ours = label_scores(logits, labels.positive, score.transform).astype(np.float64)
    theirs = _torch_scores(torch.tensor(logits).double(), labels.positive, score.transform).numpy()
    off = np.abs(ours - theirs) / (1 + np.abs(theirs))
    if not off.max() <= _ROUNDING:
        worst = int(np.argmax(np.nan_to_num(off, nan=np.inf)))
        raise ParityError(
            f"score: {score.transform} of the logits {logits[worst].tolist()} for {labels.names[labels.positive]!r} "
            f"is {theirs[worst]:.6g} in torch and {ours[worst]:.6g} in the runtime"
        )


def _is_named(name: str, token: int, tokenizer: Tokenizer) -> bool:
    return (
        name == str(token)
        or tokenizer.token_id(name) == token
        or tokenizer.encode_batch([name])[0].tolist() == [token]
        or tokenizer.decode([token]).strip() == name.strip()
    )


def _torch_scores(logits: Tensor, positive: int, transform: str) -> Tensor:
    if transform == "softmax":
        return logits.softmax(-1)[:, positive]
    if transform == "log-odds":
        others = [index for index in range(logits.shape[1]) if index != positive]
        return logits[:, positive] - logits[:, others].logsumexp(-1)
    return logits[:, positive].sigmoid() if transform == "sigmoid" else logits[:, positive]
