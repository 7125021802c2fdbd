"""The real encoder, where the demo's package is installed."""

from importlib.util import find_spec

import numpy as np
import pytest

from examples.esco.minilm import PACKAGE, MiniLM, minilm_path

pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs the package {PACKAGE}")


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM.load()


def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(minilm):
    texts = [
        "cook",
        "a cook of fish and other dishes in a large kitchen",
        "metal drawing machine operator",
    ]
    together = minilm.encode(texts)
    assert together.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together, np.concatenate([minilm.encode([t]) for t in texts]), atol=1e-6)


def test_a_text_is_read_beyond_128_tokens_and_cut_at_512(minilm):
    words = "cook " * 200
    assert abs(minilm.encode([words + "pilot"]) - minilm.encode([words + "nurse"])).max() > 1e-3
    assert np.isfinite(minilm.encode(["cook " * 2000])).all()


def test_related_titles_are_nearer_than_unrelated_ones(minilm):
    lawyer, solicitor, pilot = minilm.encode(["lawyer", "solicitor at law", "airline pilot"])
    assert lawyer @ solicitor > lawyer @ pilot + 0.2


def test_its_folder_is_an_ordinary_checkpoint():
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in minilm_path().iterdir()
    }
