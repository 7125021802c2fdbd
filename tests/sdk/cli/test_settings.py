"""One configuration of `rankport serve`: flags before variables before a file before defaults, and its check."""

import json
from pathlib import Path
from typing import Any

import pytest

from rankport.runtime.store.opening import open_store
from support.bundle_samples import ENCODER_FILES, RANKER_FILES, encoder_draft, ranker_draft, write_directory
from support.certificates import CertificateFiles
from support.cli import rankport


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "encoder.bundle", encoder_draft(), ENCODER_FILES)


def written(folder: Path, text: str) -> Path:
    file = folder / "server.toml"
    file.write_text(text, encoding="utf-8")
    return file


def checked(*arguments: object) -> dict[str, Any]:
    result = rankport("serve", "--check-config", "--json-log", *arguments)
    assert result.returncode in (0, 1), result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def by_key(told: dict[str, Any]) -> dict[str, tuple[object, str]]:
    return {each["key"]: (each["value"], each["source"]) for each in told["settings"]}


def test_flags_go_before_variables_before_the_file_before_defaults(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(
        tmp_path,
        "\ufeffport = 1\ngrace-s = 2\nlame_duck_s = 3\nprefix-cache-bytes = '1GiB'\nfrozen = false\n",
    )
    monkeypatch.setenv("RANKPORT_SERVE_PORT", "11")
    monkeypatch.setenv("RANKPORT_SERVE_GRACE_S", "12")
    monkeypatch.setenv("RANKPORT_SERVE_HOST", "")  # says nothing
    told = by_key(checked(bundle, "--config", file, "--port", "111"))
    assert told["port"] == (111, "--port")
    assert told["grace_s"] == (12.0, "RANKPORT_SERVE_GRACE_S")
    assert told["lame_duck_s"] == (3.0, str(file))
    assert told["prefix_cache_bytes"] == (2**30, str(file))
    assert told["host"] == ("127.0.0.1", "default")
    assert told["max_batch_tokens"] == (2048, "default")  # that of the device


def test_all_that_a_command_line_says_a_file_or_variables_can_say(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [str(tmp_path), str(bundle)]
    file = written(
        tmp_path, f"bundles = ['jobs={bundle}']\nmodel-root = {json.dumps(roots)}\njson_log = true\n"
    )
    monkeypatch.setenv("RANKPORT_SERVE_CONFIG", str(file))
    told = checked()
    assert by_key(told)["bundles"] == ([f"jobs={bundle}"], str(file))
    assert by_key(told)["model_root"] == (roots, str(file))
    assert [check["error"] for check in told["checks"]] == [""] * 4
    monkeypatch.setenv("RANKPORT_SERVE_MODEL_ROOT", " ".join(roots[:1]))
    monkeypatch.setenv("RANKPORT_SERVE_INSECURE_PUBLIC", "true")
    assert by_key(checked())["model_root"] == (roots[:1], "RANKPORT_SERVE_MODEL_ROOT")
    assert by_key(checked())["insecure_public"] == (True, "RANKPORT_SERVE_INSECURE_PUBLIC")


def test_what_it_writes_is_a_file_that_says_the_same(tmp_path: Path, bundle: Path) -> None:
    options = ("--max-pending-calls", "7", "--grace-s", "inf", "--model-root", tmp_path)
    first = rankport("serve", "--check-config", bundle, *options)
    assert first.returncode == 0
    assert "max_pending_calls = 7  # --max-pending-calls\n" in first.stdout
    assert f"# fine: bundle {bundle}\n" in first.stdout
    again = by_key(checked("--config", written(tmp_path, first.stdout)))
    assert again["max_pending_calls"][0] == 7
    assert again["grace_s"][0] == "inf"  # which is no number of JSON
    assert again["model_root"][0] == [str(tmp_path)]
    assert again["bundles"][0] == [str(bundle)]


@pytest.mark.parametrize("options", [(), ("--json-log",)])
def test_no_password_is_written(tmp_path: Path, bundle: Path, options: tuple[str, ...]) -> None:
    """A unit that checks its settings before it starts has them in its journal."""
    store, root = "redis://bob:s3cret@localhost:1/0?retry_s=0.01", "s3://key:s3cret@bucket/path/"
    roots = ("--jobs-file", tmp_path / "jobs.sqlite", "--job-root", root)
    result = rankport("serve", "--check-config", bundle, "--store", store, *roots, *options)
    assert "s3cret" not in result.stdout + result.stderr
    assert "redis://bob:***@localhost:1/0" in result.stdout
    assert "'s3://key:***@bucket/path/' has a password" in result.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max-pending-cals = 3", "'max-pending-cals' is no setting: max_pending_calls is"),
        ("[server]\nport = 3", "'server' is no setting; settings stand in no table"),
        ("port = 3\nport-s = 4", "'port-s' is no setting"),
        ("grace_s = 1\ngrace-s = 2", "'grace-s' and 'grace_s' are one setting"),
        ("port = true", "port is True: it is neither text nor a number"),
        ("port = 'x'", "port is 'x': "),
        ("port = 70000", "port is 70000: "),
        ("frozen = 'yes'", "frozen is 'yes': it is true or false"),
        ("model-root = [[1]]", "model_root is [[1]]: it is neither text nor a number"),
        ("model-root = 3", "model_root is 3: it is a list of texts"),
        ("model-root = [3]", "model_root is [3]: it is text: put it in quotes"),
        ("port = [1]", "port is [1]: it is one value, not a list"),
        ("host = ['a']", "host is ['a']: it is one value, not a list"),
        ("host = 1", "host is 1: it is text: put it in quotes"),
        ("frozen = []", "frozen is []: it is true or false"),
        ("state-file = inf", "state_file is inf: it is text: put it in quotes"),
        ('store = "a\\u0000"', "store is 'a\\x00': it has a character that no path or name may have"),
        ("score-cache = 0.5", "score_cache is 0.5: '0.5' is no whole number of bytes"),
        ("bundles = []", "bundles is []: it must not be empty"),
        ("port =", "is no TOML: "),
    ],
)
def test_a_file_with_what_is_no_setting_is_told_by_name(tmp_path: Path, text: str, told: str) -> None:
    result = rankport("serve", "--config", written(tmp_path, text))
    assert result.returncode == 2
    assert told in result.stderr
    assert "server.toml" in result.stderr


def test_a_variable_that_is_no_setting_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKPORT_SERVE_PORTS", "3")
    result = rankport("serve", "x.bundle")
    assert result.returncode == 2
    assert "variable RANKPORT_SERVE_PORTS is no setting: RANKPORT_SERVE_PORT is" in result.stderr
    monkeypatch.delenv("RANKPORT_SERVE_PORTS")
    monkeypatch.setenv("RANKPORT_SERVE_PORT", "tcp://10.0.0.1:8500")
    assert "RANKPORT_SERVE_PORT: port is 'tcp://10.0.0.1:8500': " in rankport("serve", "x.bundle").stderr


def test_all_that_is_wrong_with_files_is_found_at_once(tmp_path: Path, bundle: Path) -> None:
    files = CertificateFiles.written(tmp_path / "tls")
    clients = tmp_path / "clients.txt"
    clients.write_text("half a line")
    result = rankport(
        *("serve", "--check-config", bundle, f"other={bundle}", bundle, tmp_path / "none.bundle"),
        *("--host", "0.0.0.0", "--store", tmp_path / "none.lmdb", "--model-root", tmp_path / "none"),
        *("--tls-cert", files.cert, "--tls-key", files.ca, "--token-file", clients),
        *("--trie-root", tmp_path / "none"),
    )
    assert result.returncode == 1
    wrong = [line for line in result.stdout.splitlines() if line.startswith("# wrong: ")]
    assert [line.split()[2] for line in wrong] == [
        "certificate",
        "clients",
        "bundle",
        "bundle",
        "store",
        "model",
        "trie",
    ]
    assert f"{bundle} is named 'tiny-encoder' too" in wrong[2] or "too: give one another name" in wrong[2]
    unguarded = rankport("serve", "--check-config", bundle, "--host", "0.0.0.0")
    assert unguarded.returncode == 1
    assert "# wrong: host 0.0.0.0: host 0.0.0.0 is reached by others, without TLS" in unguarded.stdout


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--http-port", "8500"], "port and http_port are both 8500: give another http_port"),
        (
            ["--admin-port", "8600", "--metrics-port", "8600"],
            "admin_port and metrics_port are both 8600: give another metrics_port",
        ),
        (
            ["--metrics-port", "8600", "--metrics-host", "0.0.0.0"],
            "metrics_host 0.0.0.0 is reached by others, without TLS",
        ),
        (["--device", "cuda"], "has graphs for onnx-cpu, not for CUDA: take --device cpu"),
    ],
)
def test_ports_and_devices_that_do_not_go_together_are_found(
    bundle: Path, flags: list[str], told: str
) -> None:
    (wrong,) = (check["error"] for check in checked(bundle, *flags)["checks"] if check["error"])
    assert told in wrong


def test_ports_that_are_free_to_choose_or_elsewhere_are_fine(bundle: Path) -> None:
    free = ["--port", "0", "--http-port", "0", "--admin-port", "8600", "--admin-host", "127.0.0.2"]
    found = checked(bundle, *free, "--metrics-port", "8600")
    assert [check["error"] for check in found["checks"]] == ["", ""]


def test_a_store_without_the_tokens_of_a_rankers_encoder_is_found(tmp_path: Path) -> None:
    ranker = write_directory(tmp_path / "ranker.bundle", ranker_draft(), RANKER_FILES)
    with open_store(tmp_path / "tokens.lmdb", create=True):
        pass
    result = rankport("serve", "--check-config", ranker, "--store", tmp_path / "tokens.lmdb")
    assert result.returncode == 1
    (wrong,) = (line for line in result.stdout.splitlines() if line.startswith("# wrong: "))
    assert "is paired with encoder" in wrong
    assert "has tokens of no encoder" in wrong


def test_the_state_file_is_checked(tmp_path: Path, bundle: Path) -> None:
    state = tmp_path / "state.json"
    assert checked(bundle, "--state-file", state)["checks"][-1] == {"what": f"state {state}", "error": ""}
    state.write_text('{"alias": {}}')
    told = checked(bundle, "--state-file", state)["checks"][-1]["error"]
    assert told == f"state_file {state}: alias: unknown key; mend it, or take it away to start without"
