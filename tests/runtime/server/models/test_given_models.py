"""What a server in Python takes as models: whatever was loaded, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.scorer import Scorer
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support.reading.class_folders import level_classifier
from support.servers.serving import LOCAL

CONFIG = EngineConfig(threads=1)


def test_what_scores_or_classifies_is_served_however_it_was_loaded(
    list_bundle: Bundle, exported: Callable[..., Bundle], tmp_path: Path
) -> None:
    levels = exported(level_classifier(tmp_path / "levels"), name="levels", kind="classifier")
    items = ["hospital nurse", "welder", "welder"]
    with (
        Scorer.load(list_bundle, config=CONFIG) as scorer,
        Classifier.load(levels, config=CONFIG) as classifier,
        Server({"lists": scorer, "labels": classifier}, LOCAL) as server,
        Client(server.address, timeout_s=10) as client,
    ):
        ranking, own = client.rank("nurse", items), scorer.rank("nurse", items)
        np.testing.assert_array_equal(ranking.scores, own.scores)
        np.testing.assert_array_equal(ranking.indices, own.indices)
        told, known = client.classify(items), classifier.classify(items)
        np.testing.assert_array_equal(told.probabilities, known.probabilities)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"jobs": "jobs.bundle"}, r"models\['jobs'\] is a str: give a loaded model by its name"),
        ({7: "jobs.bundle"}, r"models\[7\] is a str: give a loaded model"),
        (["jobs"], "models is a list: give loaded models by name"),
        ({}, "give at least one"),
    ],
)
def test_what_is_no_loaded_model_is_refused_by_name(models: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Server(models, LOCAL)
