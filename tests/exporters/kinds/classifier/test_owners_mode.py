"""A classifier of pooled states against sentence-transformers itself, which its owner runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rankport.exporters.verify import verify
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.classifying import Classifier
from support import checkpoints, sentence_folders
from support.reading.class_folders import pooled_levels

TEXTS = ["senior nurse", "cook of the machine"]


def test_its_logits_are_those_of_the_library_and_the_proof_says_so(
    tmp_path: Path, exported: Callable[..., Bundle]
) -> None:
    from sentence_transformers import SentenceTransformer

    base = checkpoints.body(tmp_path / "base", "bert", tokenizer=True, num_hidden_layers=1)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    sentence_folders.write(base, "tokenizer_config.json", config)
    folder = pooled_levels(base, tmp_path / "levels", "mean")
    bundle = exported(folder, kind="classifier", max_item_tokens=40)
    parity = bundle.manifest.parity
    assert parity is not None
    modes = {mode.mode: mode for mode in parity.modes}
    assert list(modes) == ["one_item", "batch", "truncation", "sentence_transformers"]
    assert modes["sentence_transformers"].max_abs_error <= 1e-5
    assert parity.reference is not None
    assert "; and sentence-transformers 6" in parity.reference
    assert verify(bundle.path, folder).failures == ()
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    with Classifier.load(bundle) as classifier:
        logits = classifier.classify(TEXTS).logits
    np.testing.assert_allclose(logits, library.encode(TEXTS), atol=1e-5)
