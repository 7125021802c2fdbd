"""Fixtures of bundles on disk."""

from pathlib import Path

import pytest

from support.bundle_samples import RANKER_FILES, ranker_draft, write_directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A ranker bundle that opens."""
    return write_directory(tmp_path / "bundle", ranker_draft(), RANKER_FILES)
