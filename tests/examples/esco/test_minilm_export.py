"""MiniLM from its folder, by the README's command: what sentence-transformers makes of texts of any length."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest

from examples.esco.minilm import PACKAGE, minilm_path
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from support.effort import full_effort

pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs the package {PACKAGE}")

WORDS = ["the", "resistance", "machines", "join", "metal", "parts", "in", "a", "workshop", "with", "care"]


@full_effort
def test_its_embeddings_are_those_of_sentence_transformers(exported: Callable[..., Bundle]) -> None:
    from sentence_transformers import SentenceTransformer

    owner = SentenceTransformer(str(minilm_path()), device="cpu", local_files_only=True)
    rng = np.random.default_rng(0)
    # Two more each for the special tokens: 5 to 600 tokens, and both sides of the limit of 256.
    texts = [" ".join(rng.choice(WORDS, length - 2)) for length in (5, 6, 40, 255, 256, 257, 362, 600)]
    lengths = [len(owner.tokenizer(text, truncation=False)["input_ids"]) for text in texts]
    assert lengths == [5, 6, 40, 255, 256, 257, 362, 600]
    expected = owner.encode(texts, batch_size=1, show_progress_bar=False)
    bundle = exported(minilm_path(), name="encoder", kind="item-encoder")
    assert bundle.manifest.limits.max_item_tokens == 256
    assert bundle.manifest.parity is not None
    assert "sentence_transformers" in [mode.mode for mode in bundle.manifest.parity.modes]
    with ItemEncoder.load(bundle, config=EngineConfig(threads=1)) as encoder:
        made = encoder.encode(texts, truncation="truncate")[:, 0].astype(np.float64)
    cosines = (made * expected).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.99999
