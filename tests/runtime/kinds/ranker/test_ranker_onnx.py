"""`Ranker` and `ItemEncoder` over exported bundles in ONNX Runtime: the served answer is the checkpoint's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.labels.label_head import readout_of
from rankport.exporters.kinds.ranker.proof.reference import RankerReference
from rankport.protos.types import Item, ItemStatus, Key, Prefix
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.contract import TokenEntry, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec

WAIT_S = 60.0
TITLES = ["data engineer", "nurse", "senior machine operator", "chief cook", "software manager of sales"]


@pytest.fixture(scope="module")
def store(encoder_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenStore]:
    with (
        ItemEncoder.load(encoder_bundle.path, config=EngineConfig(threads=1)) as encoder,
        open_store(tmp_path_factory.mktemp("store") / "tokens", create=True) as opened,
    ):
        made = encoder.describe()
        spec = TokenSpec(made.embedding_tokens, made.hidden_size, made.embedding_dtype)
        namespace = opened.namespace(encoder.fingerprint, spec, create=True)
        tokens = encoder.encode(TITLES)
        namespace.put_many([TokenEntry(key, row, bytes(16)) for key, row in zip(TITLES, tokens, strict=True)])
        yield opened


@pytest.fixture(scope="module")
def reference(ranker_checkpoint: Path, mix_bundle: Bundle) -> RankerReference:
    assert mix_bundle.manifest.labels is not None
    return RankerReference(load_checkpoint(ranker_checkpoint), readout_of(mix_bundle.manifest.labels))


def full_sequences(
    ranker: Ranker, reference: RankerReference, prefix: Prefix, items: list[Item]
) -> NDArray[np.float32]:
    return reference.logits(*ranker.encode(prefix, items))


# Every way to cut the work: all at once, passes of a few tokens, chunks of a prefix, a cache of nothing, two at once.
CONFIGS = [
    EngineConfig(threads=1),
    EngineConfig(threads=1, max_batch_tokens=7, max_prefill_tokens=2, max_padding_ratio=1.0),
    EngineConfig(threads=1, prefix_cache_bytes=0, max_prefill_tokens=3, max_padding_ratio=3.0),
    EngineConfig(threads=1, prefix_cache_bytes=5000, max_active_requests=2, prepacking="footprint"),
    EngineConfig(threads=2, instances=2, max_batch_tokens=7, max_prefill_tokens=2, prefix_cache_bytes=5000),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_mixed_requests_at_once_get_the_checkpoints_logits(
    mix_bundle: Bundle, store: TokenStore, reference: RankerReference, config: EngineConfig
) -> None:
    requests: list[tuple[Prefix, list[Item]]] = [
        ("senior nurse", [Key(title) for title in TITLES]),
        ("senior nurse", [*TITLES, [9, 10, 11]]),
        ("senior nurse teacher", [Key("nurse"), "nurse", Key("chief cook")]),
        ({"query": "baker"}, [title for title in TITLES for _ in range(10)]),
        ([1, 5], [Key("nurse")]),
        ("senior nurse", [Key(title) for title in TITLES]),
    ]
    with Ranker.load(mix_bundle, store=store, config=config) as ranker:
        futures = [ranker.submit(prefix, items) for prefix, items in requests]
        for (prefix, items), future in zip(requests, futures, strict=True):
            result = future.result(WAIT_S)
            expected = full_sequences(ranker, reference, prefix, items)
            np.testing.assert_allclose(result.logits, expected, atol=1e-4)
            yes, no = np.exp(expected).T
            np.testing.assert_allclose(result.scores, yes / (yes + no), atol=1e-4)
            assert set(result.status) == {ItemStatus.OK}


def test_a_batch_changes_an_embedding_by_rounding_only(encoder_bundle: Bundle) -> None:
    texts = [title for title in TITLES for _ in range(20)]
    with ItemEncoder.load(encoder_bundle, config=EngineConfig(threads=1, max_batch_tokens=64)) as encoder:
        together = encoder.encode(texts)
        alone = np.concatenate([encoder.encode([title]) for title in TITLES])
    assert together.dtype == np.float16
    np.testing.assert_allclose(together, np.repeat(alone, 20, axis=0), atol=2e-3)


def test_two_rankers_live_in_one_process(mix_bundle: Bundle) -> None:
    config = EngineConfig(threads=1)
    with Ranker.load(mix_bundle, config=config) as first, Ranker.load(mix_bundle, config=config) as second:
        np.testing.assert_allclose(
            first.score("nurse", TITLES).logits, second.score("nurse", TITLES).logits, atol=1e-6
        )
