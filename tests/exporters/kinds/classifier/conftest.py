"""Classifiers that several tests read."""

from pathlib import Path

import pytest

from support import sentence_folders
from support.reading.class_folders import level_classifier


@pytest.fixture(scope="session")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return level_classifier(tmp_path_factory.mktemp("levels") / "c")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folders.bert(tmp_path_factory.mktemp("pooled") / "base")
