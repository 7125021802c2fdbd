"""Sample ranker of two layers that ships with the package, its tokens, and what torch says of them in fp32."""

import json
import shutil
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import ManifestRules

FOLDER = Path(__file__).parent / "ranker"
BUNDLE = "bundle"
ANSWERS = "answers.json"

_PREFIX_TOKENS = 24
_ITEM_TOKENS = (1, 3, 8, 2, 16, 5, 1, 4)
_FIRST_ID, _VOCABULARY = 3, 64
# Its files are the package's own: hashes and the rules of every bundle are enough.
_RULES = MappingProxyType({"ranker": ManifestRules(roles=frozenset({"prefix", "score"}), rules=())})


def open_sample(at: Path = FOLDER / BUNDLE) -> Bundle:
    """Opens the ranker, or a copy of it. Raises `BundleError` if it is damaged."""
    return Bundle.open(at, _RULES)


def copy_sample(to: Path) -> Bundle:
    """Copies the ranker to a folder that is not there, for plans to go into it."""
    return open_sample(Path(shutil.copytree(FOLDER / BUNDLE, to)))


def sample_tokens() -> tuple[list[int], list[list[int]]]:
    """Returns the ids of a prefix and of eight items, spread over the vocabulary."""
    ids = iter(np.random.default_rng(7).integers(_FIRST_ID, _VOCABULARY, _PREFIX_TOKENS + sum(_ITEM_TOKENS)))
    prefix = [int(next(ids)) for _ in range(_PREFIX_TOKENS)]
    return prefix, [[int(next(ids)) for _ in range(length)] for length in _ITEM_TOKENS]


def torch_logits() -> NDArray[np.float32]:
    """Returns what torch on a CPU says of these tokens. [items, labels]"""
    answers = json.loads((FOLDER / ANSWERS).read_text(encoding="utf-8"))
    return np.array(answers["logits"], np.float32)
