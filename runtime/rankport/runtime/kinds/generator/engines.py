"""The engine of a bundle that writes, by its kind, and what each is asked."""

from concurrent.futures import Future

from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.choice import load_decode_backend, load_seq2seq_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engine import GenerationEngine
from rankport.runtime.kinds.generator.seq2seq.engine import Seq2SeqEngine
from rankport.runtime.kinds.generator.seq2seq.requests import BeamOrder
from rankport.runtime.kinds.generator.texts import TextOrder, Written
from rankport.runtime.tokens import TokenRun

WritingEngine = GenerationEngine | Seq2SeqEngine

_MOST_LOGITS = 1 << 26  # of a pass over items to be scored: 256 MiB


def load_engine(bundle: Bundle, config: EngineConfig) -> WritingEngine:
    """Loads the engine of a bundle. Raises as `load_decode_backend`."""
    generation = bundle.manifest.generation
    assert generation is not None, "a rule of both kinds"
    if generation.decoding is None:
        scored_tokens = max(1, _MOST_LOGITS // bundle.manifest.shape.vocab_size)
        return GenerationEngine(load_decode_backend(bundle, config), config, scored_tokens=scored_tokens)
    return Seq2SeqEngine(load_seq2seq_backend(bundle, config), generation.decoding.start_id, config)


def submit_order(
    engine: WritingEngine,
    prompt: TokenRun,
    order: TextOrder | BeamOrder,
    timeout_s: float | None,
    spent_s: float,
) -> "Future[Written]":
    """Queues an order that was made for the engine's bundle."""
    if isinstance(engine, Seq2SeqEngine):
        return engine.submit(prompt, order, timeout_s, spent_s=spent_s)
    assert isinstance(order, TextOrder), "beams are refused before"
    return engine.submit(prompt, order, timeout_s, spent_s=spent_s)


def searching(engine: WritingEngine, manifest: Manifest) -> GenerationEngine:
    """Gives an engine that searches tries. Raises `InvalidRequest` if it does not."""
    if isinstance(engine, Seq2SeqEngine):
        raise InvalidRequest(
            f"bundle {manifest.name!r} of kind {manifest.kind} searches no trie: generate with beams, or give another"
        )
    return engine


def scoring(engine: WritingEngine, manifest: Manifest) -> GenerationEngine:
    """Gives an engine that scores items. Raises `InvalidRequest` if it does not."""
    if isinstance(engine, Seq2SeqEngine):
        raise InvalidRequest(
            f"bundle {manifest.name!r} of kind {manifest.kind} scores no items: generate with it, or give another"
        )
    return engine
