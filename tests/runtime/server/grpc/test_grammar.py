"""Texts of a form over gRPC: JSON by a schema that a request brings, whole and in parts."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import FileEntry
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME, manifest_bytes
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.effort import full_effort

SCHEMA = {
    "type": "object",
    "properties": {"fit": {"enum": ["low", "medium", "high"]}, "years": {"enum": [1, 20, 300]}},
    "required": ["fit", "years"],
    "additionalProperties": False,
}
SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[UNK]")


def byte_level() -> str:
    """Makes a tokenizer of the bytes of ASCII that are printed, as JSON."""
    printed = [chr(byte) for byte in range(33, 127)]
    inner = Tokenizer(
        models.BPE({token: place for place, token in enumerate([*SPECIAL, "\u0120", *printed])}, [])
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(SPECIAL))
    return str(inner.to_str())


def with_tokenizer(bundle: Bundle, folder: Path, content: bytes) -> Bundle:
    """Copies a bundle, with another tokenizer."""
    shutil.copytree(bundle.path, folder)
    name = bundle.manifest.tokenizer
    assert name is not None
    for changed in (folder, folder / name, folder / MANIFEST_NAME):
        changed.chmod(0o755)
    (folder / name).write_bytes(content)
    entry = FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    files = [entry if file.path == name else file for file in bundle.manifest.files]
    manifest = with_own_fingerprint(bundle.manifest.model_copy(update={"files": files}))
    (folder / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))
    return open_bundle(folder)


@pytest.fixture(scope="module")
def client(generator_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    pytest.importorskip("llguidance")
    folder = tmp_path_factory.mktemp("grammar") / "b"
    bundle = with_tokenizer(generator_bundle, folder, byte_level().encode())
    with (
        Generator.load(bundle, config=EngineConfig(threads=1)) as generator,
        Server({"writer": generator}, ServerConfig(port=0, grace_s=1.0)) as server,
        Client(server.address, timeout_s=30.0) as connected,
    ):
        yield connected


@pytest.mark.parametrize("schema", [SCHEMA, json.dumps(SCHEMA)], ids=["mapping", "text"])
def test_a_text_over_grpc_is_json_by_its_schema(client: Client, schema: object) -> None:
    order = Sampling(json_schema=schema, max_tokens=64, temperature=1.0, seed=2)  # type: ignore[arg-type]
    result = client.generate([5, 6], order)
    said = json.loads(result.text)
    assert list(said) == ["fit", "years"]
    assert said["fit"] in ("low", "medium", "high")
    assert said["years"] in (1, 20, 300)
    assert result.finish_reason == "stop"
    with client.stream([5, 6], order) as stream:
        assert "".join(part.text for part in stream) == result.text


def test_a_pattern_is_matched_as_a_whole(client: Client) -> None:
    order = Sampling(regex="(ab|cd){2}!", max_tokens=64, temperature=1.0)
    texts = {client.generate([5, 6], replace(order, seed=seed)).text for seed in range(4)}
    assert texts <= {"abab!", "abcd!", "cdab!", "cdcd!"}


@full_effort
def test_a_schema_that_compiles_for_ever_is_refused_while_others_are_answered(client: Client) -> None:
    endless = {"type": "string", "allOf": [{"pattern": f".*a.{{{place}}}"} for place in range(24)]}
    with ThreadPoolExecutor(1) as threads:
        refused = threads.submit(client.generate, [5, 6], Sampling(json_schema=endless))
        while not refused.done():
            assert client.generate([5, 6], Sampling(regex="ab", max_tokens=8)).text == "ab"
        with pytest.raises(InvalidRequest, match="json_schema cannot be followed: it takes more than 2 s"):
            refused.result()
    with pytest.raises(InvalidRequest, match="takes more than 2 s"):  # known by now
        client.generate([5, 6], Sampling(json_schema=endless))
