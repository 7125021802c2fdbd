"""A file or folder that a command is told and cannot use: one line that names it, and exit code 1, for every option."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rankport.runtime.bundle.bundle import Bundle
from support.cli import rankport
from support.command_tree import all_commands, option_name
from support.servers.redis_server import redis_server

WRITTEN = {"--out", "--json", "--html", "--plots", "--bad-rows", "--dataset", "--list", "token new --file"}

# The command lines, by the option or argument in which the file or folder stands as "@"; what else they name is there.
FILES: Mapping[tuple[str, str], str] = {
    ("export", "--prompt"): "export {checkpoint} --kind ranker --prompt @ --out {out}",
    (
        "export",
        "--reference",
    ): "export {checkpoint} --kind ranker --prompt {prompt} --reference @ --out {out}",
    ("export", "--judged"): "export {checkpoint} --kind ranker --prompt {prompt} --judged @ --out {out}",
    ("export", "--calibration"): "export {checkpoint} --kind ranker --prompt {prompt} --quantize int8 "
    "--calibration @ --out {out}",
    ("verify", "--calibration"): "verify {mix} --checkpoint {checkpoint} --calibration @",
    ("verify", "--judged"): "verify {mix} --checkpoint {checkpoint} --judged @",
    ("verify", "--reference"): "verify {bundle} --checkpoint {encoder} --reference @",
    ("ground", "--pairs"): "ground {checkpoint} --pairs @ --new-tokens 2 --out {out}",
    ("ground", "--add-tokens"): "ground {checkpoint} --pairs {pairs} --add-tokens @ --out {out}",
    ("serve", "--config"): "serve {bundle} --config @",
    ("serve", "--state-file"): "serve {bundle} --port 0 --state-file @",
    ("serve", "--jobs-file"): "serve {bundle} --port 0 --jobs-file @",
    ("serve", "--tls-cert"): "serve {bundle} --port 0 --tls-cert @ --tls-key {lines}",
    ("serve", "--tls-key"): "serve {bundle} --port 0 --tls-cert {lines} --tls-key @",
    (
        "serve",
        "--tls-client-ca",
    ): "serve {bundle} --port 0 --tls-cert {lines} --tls-key {lines} --tls-client-ca @",
    ("serve", "--token-file"): "serve {bundle} --port 0 --token-file @",
    ("trie build", "file"): "trie build @ --bundle {generator} --out {out}",
    ("score", "--items"): "score --bundle {bundle} --prefix q --items @",
    ("tag", "--texts"): "tag --bundle {bundle} --texts @",
    ("classify", "--file"): "classify --bundle {bundle} --file @",
    ("generate", "--json-schema"): "generate q --bundle {bundle} --json-schema @",
    ("rank", "requests"): "rank @ --bundle {bundle}",
    ("audit tokens", "--codebook"): "audit tokens {checkpoint} --new-tokens 2 --codebook @",
    ("audit membership", "--members"): "audit membership --members @ --non-members {lines}",
    (
        "audit membership",
        "--non-members",
    ): "audit membership --bundle {bundle} --members {csv} --non-members @",
    (
        "audit membership",
        "--strangers",
    ): "audit membership --bundle {bundle} --members {csv} --non-members {others} --strangers @",
    ("loadtest", "--requests"): "loadtest --server localhost:1 --requests @",
    ("loadtest", "--prefixes"): "loadtest --server localhost:1 --prefixes @ --items {lines}",
    ("loadtest", "--items"): "loadtest --server localhost:1 --prefixes {lines} --items @",
}
FOLDERS: Mapping[tuple[str, str], str] = {
    ("export", "checkpoint"): "export @ --kind ranker --prompt {prompt} --out {out}",
    ("export", "--base"): "export {adapter} --kind ranker --prompt {prompt} --base @ --out {out}",
    (
        "export",
        "--item-encoder",
    ): "export {checkpoint} --kind ranker --prompt {prompt} --item-encoder @ --out {out}",
    ("export", "--store"): "export {checkpoint} --kind ranker --prompt {prompt} --item-encoder {bundle} "
    "--judged {judged} --store @ --out {out}",
    ("verify", "bundle"): "verify @ --checkpoint {encoder}",
    ("verify", "--checkpoint"): "verify {bundle} --checkpoint @",
    ("verify", "--base"): "verify {mix} --checkpoint {adapter} --base @",
    ("verify", "--store"): "verify {mix} --checkpoint {checkpoint} --judged {judged} --store @",
    ("inspect", "bundle"): "inspect @",
    ("ground", "checkpoint"): "ground @ --pairs {pairs} --new-tokens 2 --out {out}",
    ("encode", "--bundle"): "encode --bundle @ --items {csv} --store {out}",
    ("nearline", "--bundle"): "nearline --redis {redis} --store {out} --bundle @",
    ("store inspect", "store"): "store inspect @",
    ("store diff", "first"): "store diff @ {out}",
    ("store copy", "source"): "store copy @ {out}",
    ("store compact", "store"): "store compact @",
    ("store publish", "--store"): "store publish f --store @",
    ("store drop", "--store"): "store drop f --store @",
    ("serve", "bundles"): "serve @ --port 0",
    ("serve", "--store"): "serve {mix} --port 0 --store @",
    ("serve", "--model-root"): "serve {bundle} --port 0 --model-root @",
    ("serve", "--job-root"): "serve {bundle} --port 0 --jobs-file {out} --job-root @",
    ("serve", "--trie-root"): "serve {bundle} --port 0 --trie-root @",
    ("trie build", "--bundle"): "trie build {lines} --bundle @ --out {out}",
    ("score", "--bundle"): "score a --prefix q --bundle @",
    ("score", "--store"): "score a --prefix q --bundle {mix} --store @",
    ("tag", "--bundle"): "tag a --bundle @",
    ("classify", "--bundle"): "classify a --bundle @",
    ("generate", "--bundle"): "generate a --bundle @",
    ("rank", "--bundle"): "rank {sets} --bundle @",
    ("build", "bundle"): "build @ --target tensorrt-rtx:sm89",
    ("audit tokens", "checkpoint"): "audit tokens @ --new-tokens 2",
    ("audit membership", "--bundle"): "audit membership --bundle @ --members {csv} --non-members {others}",
}
EITHER: Mapping[tuple[str, str], str] = {  # made where nothing is, or a file as well as a folder
    ("encode", "--items"): "encode --bundle {bundle} --items @ --store {out}",
}


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def there(
    tmp_path: Path,
    encoder_bundle: Bundle,
    encoder_checkpoint: Path,
    mix_bundle: Bundle,
    ranker_checkpoint: Path,
    prompt_file: Path,
    generator_bundle: Bundle,
    redis_url: str,
) -> dict[str, object]:
    """What the command lines name beside."""
    (tmp_path / "lines").write_text('{"id": "a", "text": "a"}\n')
    (tmp_path / "sets").write_text('{"history": [], "candidates": []}\n')
    (tmp_path / "pairs").write_text('{"text": "a", "tokens": ["a"]}\n' * 2)
    for name in ("items", "others"):
        rows = (f"{row},text {row},{name}{row // 2}" for row in range(120))
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,text,user", *rows]))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "judged.jsonl").write_text(
        '{"prefix": {"query": "a"}, "items": [{"key": "a"}, "b"], "gains": [1, 0]}\n'
    )
    return {
        "bundle": encoder_bundle.path,
        "encoder": encoder_checkpoint,
        "mix": mix_bundle.path,
        "checkpoint": ranker_checkpoint,
        "prompt": prompt_file,
        "lines": tmp_path / "lines",
        "sets": tmp_path / "sets",
        "csv": tmp_path / "items.csv",
        "others": tmp_path / "others.csv",
        "pairs": tmp_path / "pairs",
        "adapter": tmp_path / "adapter",
        "generator": generator_bundle.path,
        "judged": tmp_path / "judged.jsonl",
        "redis": redis_url,
        "out": tmp_path / "out",
    }


def bad_paths(folder: Path, wanted: str) -> dict[str, Path]:
    """What is not there, what is of the other kind, and what the system refuses to open, to root as well."""
    paths = {"absent": folder / "absent", "unreadable": folder / "unreadable"}
    paths["unreadable"].symlink_to(paths["unreadable"])
    if wanted == "file":
        (folder / "a_folder").mkdir()
        paths["folder"] = folder / "a_folder"
    if wanted == "folder":
        (folder / "a_file").write_text("text\n")
        paths["file"] = folder / "a_file"
    return paths


LINES = [
    *(("file", key, line) for key, line in FILES.items()),
    *(("folder", key, line) for key, line in FOLDERS.items()),
    *(("either", key, line) for key, line in EITHER.items()),
]


@pytest.mark.parametrize(("wanted", "key", "line"), LINES, ids=[" ".join(key) for _, key, _ in LINES])
def test_what_cannot_be_used_is_named(
    wanted: str, key: tuple[str, str], line: str, there: dict[str, object], tmp_path: Path
) -> None:
    for what, path in bad_paths(tmp_path, wanted).items():
        if what == "absent" and key[1] in ("--state-file", "--jobs-file"):
            continue  # made
        done = rankport(*line.format(**there).replace("@", str(path)).split())
        assert done.returncode == 1, (what, done.stderr)
        (told,) = [each for each in done.stderr.splitlines() if each.startswith("rankport: ")]
        assert str(path) in told or path.name in told, what
        assert not told.startswith("rankport: InvalidRequest")


def test_no_option_that_takes_a_path_is_left_out() -> None:
    named = {
        (" ".join(words), option_name(parameter))
        for words, command in all_commands()
        for parameter in command.params
        if "Path" in str(parameter.get_runtime_param().annotation)
    }
    left = {key for key in named - {key for _, key, _ in LINES} if not {key[1], " ".join(key)} & WRITTEN}
    assert not left
