"""Fixtures of prompts."""

from pathlib import Path

import pytest

from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import PromptEncoder
from support.bundle_samples import RANKER_FILES, ranker_draft, write_directory


@pytest.fixture
def encoder(tmp_path: Path) -> PromptEncoder:
    """[CLS] "query :" query (at most 4, its end) | item (at most 4) [SEP]; prefix at most 8, item at most 6."""
    return PromptEncoder.from_bundle(open_bundle(write_directory(tmp_path, ranker_draft(), RANKER_FILES)))
