"""Folder of a server's sockets: it is there for the block alone, and nobody who clears away takes it."""

import fcntl
import os
import stat

import pytest

from rankport.runtime.server.processes.folder import temporary_folder


def test_it_is_private_locked_and_gone_in_the_end() -> None:
    with temporary_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "state.json").write_text("{}")
        fd = os.open(folder, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):  # as systemd-tmpfiles asks
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
    assert not folder.exists()
