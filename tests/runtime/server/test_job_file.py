"""The file of a server's jobs, which it has alone: a server that does not start leaves it to the next."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.jobs.book import JobBook
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicRanker
from support.servers.jobs_server import jobs_config


@pytest.mark.parametrize(
    "unusable",
    [{"job_roots": ("/none",)}, {"security": SecurityConfig(token_file="/none")}],
    ids=["job root", "token file"],
)
def test_what_cannot_be_used_is_told_before_the_file_is_opened(
    tmp_path: Path, unusable: dict[str, object]
) -> None:
    config = replace(jobs_config(tmp_path), **unusable)
    with pytest.raises(InvalidRequest, match="/none"):
        Server({"ranker": DeterministicRanker()}, config)
    assert not _file(config).exists()


@pytest.mark.parametrize("port", ["port", "metrics_port"])
def test_a_taken_address_frees_the_file(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config, number = jobs_config(tmp_path), taken.getsockname()[1]
        if port == "port":
            config = replace(config, port=number)
        else:
            config = replace(config, observing=ObservingConfig(metrics_port=number))
        server = Server({"ranker": DeterministicRanker()}, config)
        with pytest.raises(Unavailable, match=str(number)):
            server.start()
    _opens(config)


def test_a_server_that_is_stopped_before_its_start_frees_the_file(tmp_path: Path) -> None:
    config = jobs_config(tmp_path)
    server = Server({"ranker": DeterministicRanker()}, config)
    with pytest.raises(InvalidRequest, match="another server has it open"):
        _opens(config)
    server.stop()
    server.stop()
    _opens(config)


def _file(config: ServerConfig) -> Path:
    assert config.jobs_file is not None
    return Path(config.jobs_file)


def _opens(config: ServerConfig) -> None:
    JobBook(str(_file(config))).close()
