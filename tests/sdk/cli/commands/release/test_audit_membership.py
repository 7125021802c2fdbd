"""`rankport audit membership` over a real bundle: exit codes, JSON, one page, and the control."""

import json
from pathlib import Path

import numpy as np

from rankport.runtime.bundle.bundle import Bundle
from support.cli import rankport

WORDS = ("data", "nurse", "engineer", "operator", "senior", "machine")
FAST = ("--resamples", 100, "--null-rounds", 2, "--repeats", 1, "--references", 60, "--min-users", 10)


def users_file(path: Path, name: str, seed: int, words: int) -> Path:
    random = np.random.default_rng(seed)
    rows = [f"{name}{user},{' '.join(random.choice(WORDS, words))}" for user in range(16) for _ in range(3)]
    path.write_text("user,text\n" + "\n".join(rows) + "\n")
    return path


def test_figures_of_a_bundle_are_written_and_texts_that_differ_are_told(
    encoder_bundle: Bundle, tmp_path: Path
) -> None:
    ours = users_file(tmp_path / "ours.csv", "m", 1, 2)
    others = users_file(tmp_path / "others.csv", "o", 2, 5)
    rows = [line.split(",") for line in ours.read_text().splitlines()[1:]]
    with ours.open("a") as more:
        more.writelines(f"{user},{text}\n" for user, text in (rows[0], rows[0], rows[-1]))
    with others.open("a") as more:
        more.write(f"o0,{rows[0][1]}\no1,{rows[0][1]}\n")
    page = tmp_path / "page.html"
    done = rankport(
        *("audit", "membership", "--bundle", encoder_bundle.path, "--members", ours),
        *("--non-members", others, "--json", "-", "--html", page, "--max-auc", 0.6, *FAST),
    )
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["passed"] else 1)
    assert report["subject"]["name"] == "tiny-encoder"
    distinct = len(set(map(tuple, rows)))
    members = report["members"]
    assert (members["users"], members["samples"], members["repeats"]) == (16, distinct, 51 - distinct)
    assert (
        f"{51 - distinct} texts of {ours} are left out: the same user has them once more" in report["notes"]
    )
    assert any(
        note.startswith("2 texts of non-members are among those of members too: ") for note in report["notes"]
    )
    assert report["control"]["auc"]["low"] > 0.5
    assert any("differ in their texts alone" in note for note in report["notes"])
    assert any("the median length of members' texts" in note for note in report["notes"])
    assert report["attacks"][0]["tpr_at_fpr_0.01"] is None
    html = page.read_text()
    assert "<svg" in html
    assert "http" not in html.split("<dl>")[0].replace("http://www.w3.org", "")
    assert "not resolved" in html


def test_what_is_asked_wrong_exits_2_with_its_place(encoder_bundle: Bundle, tmp_path: Path) -> None:
    ours = users_file(tmp_path / "ours.csv", "m", 1, 2)
    command = ("audit", "membership", "--bundle", encoder_bundle.path, "--members", ours, "--non-members")
    both = rankport(*command, ours, *FAST)
    assert both.returncode == 2
    assert "user 'm0' is a member and a non-member" in both.stderr
    empty = tmp_path / "empty.csv"
    empty.write_text("user,text\na,nurse\na,\n")
    refused = rankport(*command, empty, *FAST)
    assert refused.returncode == 2
    assert "line 3" in refused.stderr
    long = rankport(*command, ours, "--max-row-length", 10, *FAST)
    assert long.returncode == 2
    assert "over 10 characters: shorten it, or raise max_row_length (--max-row-length" in long.stderr
    column = rankport(*command, ours, "--user-column", "who")
    assert column.returncode == 2
    assert "who" in column.stderr
