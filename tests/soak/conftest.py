"""A store and questions with their answers, which all traffic is made of."""

import shutil
from pathlib import Path

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from soak.texts import Asked, asked_of
from soak.traffic import Question, questions_of

KEYS = [f"item {number}" for number in range(40)]


@pytest.fixture(scope="module")
def store(encoder_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("soak") / "tokens.lmdb"
    with ItemEncoder.load(encoder_bundle, config=EngineConfig(threads=1)) as encoder:
        made, rows = encoder.describe(), encoder.encode(KEYS)
    spec = TokenSpec(made.embedding_tokens, made.hidden_size, made.embedding_dtype)
    with open_store(path, create=True) as opened:
        namespace = opened.namespace(made.fingerprint, spec, create=True)
        namespace.put_many([TokenEntry(key, row, bytes(16)) for key, row in zip(KEYS, rows, strict=True)])
    return path


@pytest.fixture(scope="module")
def questions(mix_bundle: Bundle, store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    """Questions of callers, with the answers of a model of this process, which reads a copy of the store."""
    copied = shutil.copytree(store, tmp_path_factory.mktemp("copy") / "tokens.lmdb")
    with Ranker.load(mix_bundle, store=copied, config=EngineConfig(threads=1)) as ranker:
        return questions_of(ranker.score, KEYS)


@pytest.fixture(scope="module")
def asked(generator_bundle: Bundle) -> list[Asked]:
    """Texts that readers ask for, as a generator of this process writes them."""
    with Generator.load(generator_bundle, config=EngineConfig(threads=1)) as generator:
        return asked_of(generator.generate)
