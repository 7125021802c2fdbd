"""Greedy texts of the whole runtime, each token held against the source."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.proof.emulation import Runnable
from rankport.protos.errors import ParityError
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.manifest import Generation
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.seq2seq.constraints import Constraints

_TOKENS = 32


def check_texts(
    place: Runnable, source: Checkpoint, texts: Sequence[NDArray[np.int64]], level: float
) -> None:
    """Raises ParityError where a greedy text takes a token that the source finds less likely, by more than a level.

    Logits closer than `level` have no order: rounding decides which token is written.
    """
    manifest = place.bundle.manifest
    assert manifest.generation is not None
    most = min(_TOKENS, manifest.limits.max_item_tokens)
    greedy = Sampling(max_tokens=most, temperature=0.0, repetition_penalty=1.0, beams=1)
    with Generator.load(place.bundle, config=place.config) as generator:
        futures = [generator.submit_generate(text.tolist(), greedy) for text in texts]
        for text, future in zip(texts, futures, strict=True):
            written = future.result()
            stopped = written.finish_reason == "stop"
            _check_greedy(source, manifest.generation, text, list(written.token_ids), most, stopped, level)


def _check_greedy(
    source: Checkpoint,
    generation: Generation,
    text: NDArray[np.int64],
    ids: list[int],
    most: int,
    stopped: bool,
    level: float,
) -> None:
    assert generation.decoding is not None
    constraints = Constraints(generation.decoding, tuple(generation.stop_ids), most)
    fed = [generation.decoding.start_id, *ids]
    with torch.no_grad():
        logits = source.model(
            input_ids=torch.tensor(text)[None], decoder_input_ids=torch.tensor(fed)[None], use_cache=False
        ).logits[0]
    for step, row in enumerate(logits.float().numpy()[: len(ids) + stopped]):
        left = constraints.apply(row, fed[: step + 1])
        taken = [ids[step]] if step < len(ids) else generation.stop_ids
        if left.max() - left[taken].max() > level:
            raise ParityError(
                f"greedy text: at token {step} the bundle writes {taken[0]}, its source {int(left.argmax())}, likelier "
                f"by {left.max() - left[taken].max():.1e} in the logit"
            )
