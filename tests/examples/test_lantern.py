"""The example of LANTERN: what its explainer learns from, and under full effort that labels and texts agree."""

import json
import subprocess
import sys
from pathlib import Path

from examples.esco.dataset import Dataset
from examples.esco.minilm import PACKAGE
from examples.fit.dataset import LEVELS
from examples.lantern.run import PROMPT
from examples.lantern.teacher import explanation, groups_of, label_told, lessons
from rankport.runtime.prompt.prompt_file import load_prompt_file
from support.effort import full_effort_with


def test_explanations_open_with_the_label_and_name_a_group() -> None:
    groups = groups_of(Dataset.load())
    assert len(groups) == 10
    for level in LEVELS:
        text = explanation(level, groups[0])
        assert label_told(text) == level
        assert text.endswith(f"as one of the {groups[0]} .")
    assert label_told("") == label_told("perfect fit") == ""


def test_lessons_are_prompts_of_the_training_split_with_any_label() -> None:
    dataset = Dataset.load()
    texts = lessons(dataset, most=2)
    queries = {query.text for query in dataset.split("train")}
    assert len(texts) == 2 * len(queries) > 1_900
    told = [text.split(" . why : ")[1] for text in texts]
    counts = [sum(label_told(one) == level for one in told) for level in LEVELS]
    assert min(counts) > len(texts) / 10
    assert all(text.split(" . candidate : ")[0].removeprefix("job : ") in queries for text in texts)
    assert load_prompt_file(PROMPT).prompt.fields == ("job", "candidate", "fit")


@full_effort_with(PACKAGE)
def test_labels_and_explanations_agree(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "examples.lantern.run", "--out", str(tmp_path)], check=True)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["agreement"] >= 0.95
    assert report["fit_requests"] == 30 * report["explanations"]
