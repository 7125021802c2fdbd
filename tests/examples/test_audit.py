"""The example of the membership audit: how users are drawn apart, and under full effort what is found."""

import json
import subprocess
import sys
from pathlib import Path

from examples.audit.dataset import read_users, split
from examples.esco.minilm import PACKAGE
from support.effort import full_effort_with


def test_users_are_drawn_apart_and_so_are_their_titles() -> None:
    users = read_users()
    sets = split(users, 100, 200)
    assert len(users) > 1_500
    assert set(sets.trained) == set(sets.members)
    sides = [set(sets.members), set(sets.non_members), set(sets.validation)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(users)
    for user, titles in sets.members.items():
        assert set(titles).isdisjoint(sets.trained[user])
        assert {*titles, *sets.trained[user]} == set(users[user])
    owned = [title for titles in users.values() for title in titles]
    assert len(owned) == len(set(owned))


@full_effort_with(PACKAGE)
def test_an_overfitted_encoder_is_found_and_one_stopped_in_time_passes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "examples.audit.run", "--out", str(tmp_path)], check=True)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["overfitted"]["other titles"]["auc"] >= 0.8
    assert report["stopped"]["other titles"]["low"] <= 0.5 <= report["stopped"]["other titles"]["high"]
