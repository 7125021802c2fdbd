"""The session on a GPU: what is due, what is skipped, and what a call before left."""

from pathlib import Path

import pytest

from benchmarks.gpu.plan import PLAN, PLANS, Planned, chosen, due, failures, obstacle, seconds_for

DONE = {"outcome": "done"}
SMALL = (
    Planned("restore", "m", 10, 60, "fp16"),
    Planned("in_process", "m", 30, 80, "fp16"),
    Planned("reference", "m", 20, 60),
    Planned("parity", "m", 15, 50, "fp16"),
)


def names(parts: tuple[Planned, ...]) -> list[str]:
    return [part.name for part in parts]


def test_every_part_is_planned_once_and_after_what_it_needs() -> None:
    order = names(PLAN)
    assert len(set(order)) == len(order)
    for part in PLAN:
        assert all(order.index(need) < order.index(part.name) for need in part.needs)
        assert part.least_s <= part.most_s


def test_every_part_has_its_module() -> None:
    root = Path(__file__).parents[2]
    modules = {part.path for part in PLAN if part.module != "restore"}
    assert [path for path in modules if not (root / f"{path.replace('.', '/')}.py").is_file()] == []


def test_the_parts_worth_most_fit_into_the_first_of_two_calls() -> None:
    """470 s, as a machine's start, the slices and setup take part of its 15 minutes."""
    first = [part for part in PLAN if names(PLAN).index(part.name) <= names(PLAN).index("served mixlm fp16")]
    assert sum(part.most_s for part in first) <= 470


def test_rankers_of_sets_are_measured_within_the_second_of_two_calls() -> None:
    """300 s, of which parts that end early leave more."""
    order = names(PLAN)
    second = PLAN[order.index("conformance mixlm") : order.index("set_peers mixlm") + 1]
    assert sum(part.most_s for part in second) <= 300


def test_nothing_is_due_twice_but_what_failed_or_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "m.fp16.bundle").mkdir()
    (tmp_path / "m.fp16.bundle" / "manifest.json").touch()
    results = {
        "restore m fp16": DONE,
        "in_process m fp16": {"outcome": "stopped: out of time"},
        "reference m": {"skipped": "4 s left"},
    }
    assert names(due(SMALL, results, tmp_path)) == ["in_process m fp16", "reference m", "parity m fp16"]


def test_a_part_that_was_under_way_at_a_kill_is_due(tmp_path: Path) -> None:
    assert "reference m" in names(due(SMALL, {"reference m": {"outcome": "begun", "figures": {}}}, tmp_path))


@pytest.mark.parametrize(
    ("open_part", "again"),
    [
        ("in_process m fp16", ["restore m fp16"]),
        ("parity m fp16", ["restore m fp16", "reference m"]),
    ],
)
def test_another_machine_gets_anew_what_is_still_taken(
    open_part: str, again: list[str], tmp_path: Path
) -> None:
    results = {part.name: DONE for part in SMALL if part.name != open_part}
    assert set(names(due(SMALL, results, tmp_path))) == {*again, open_part}


def test_nothing_is_restored_for_parts_that_are_done(tmp_path: Path) -> None:
    assert due(SMALL, {part.name: DONE for part in SMALL}, tmp_path) == ()


def test_plans_on_another_machine_are_built_again_over_a_restored_bundle(tmp_path: Path) -> None:
    parts = chosen(["parity mixlm plans"])
    results = {part.name: DONE for part in parts if part.name != "parity mixlm plans"}
    expected = ["reference mixlm", "restore mixlm plans", "build_plans mixlm plans", "parity mixlm plans"]
    assert names(due(parts, results, tmp_path)) == expected


def test_parts_are_chosen_by_module_or_name_with_what_they_need() -> None:
    assert names(chosen(["in_process m fp16"], SMALL)) == ["restore m fp16", "in_process m fp16"]
    assert names(chosen(["parity"], SMALL)) == ["restore m fp16", "reference m", "parity m fp16"]
    assert chosen([], SMALL) == SMALL
    with pytest.raises(ValueError, match="no part is called served: there are in_process"):
        chosen(["served"], SMALL)


@pytest.mark.parametrize(
    ("left", "tiny", "seconds"),
    [
        (200, False, 80),
        (50, False, 50),
        (29, False, None),
        (29, True, 29),
        (900, True, 400),
        (0.5, True, None),
    ],
)
def test_a_part_has_its_budget_or_what_is_left(left: float, tiny: bool, seconds: float | None) -> None:
    assert seconds_for(SMALL[1], left, tiny=tiny) == seconds


def test_a_part_that_cannot_be_run_says_why() -> None:
    restore, in_process, *_ = SMALL
    assert obstacle(restore, {}, "cuda", lambda _: False) == "there is no m.fp16.skeleton"
    assert obstacle(restore, {}, "cuda", lambda name: name == "m.fp16.skeleton") == ""
    assert obstacle(in_process, {}, "cuda", lambda _: True) == "restore m fp16 did not end well"
    assert obstacle(in_process, {"restore m fp16": DONE}, "cuda", lambda _: True) == ""
    trained = Planned("trained", "esco", 10, 20)
    assert obstacle(trained, {}, "cuda", lambda _: False) == "there is no trained-esco.skeleton"
    on_plans = Planned("in_process", "m", 10, 20, PLANS)
    assert obstacle(on_plans, {}, "cpu", lambda _: True) == "plans run on a GPU"


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("in_process mixlm fp16", "fp16"),
        ("in_process mixlm bf16", "bf16"),
        ("in_process mixlm plans", "fp16"),  # which TensorRT takes
        ("encoding mixlm", "fp16"),
        ("text_kinds mixlm", "fp16"),
        ("set_peers mixlm", "fp16"),
        ("peers mixlm", "bf16"),
        ("compiled_peers slm", "bf16"),
    ],
)
def test_a_share_is_of_the_product_in_what_a_part_computes_in(name: str, product: str) -> None:
    assert next(part.ceiling for part in PLAN if part.name == name) == f"{product}_product_tflops"


def test_a_part_that_was_skipped_is_no_failure() -> None:
    results = {
        "a": DONE,
        "b": {"skipped": "4 s left"},
        "c": {"outcome": "exit code 1"},
        "d": {"outcome": "begun"},
    }
    assert failures(results) == ["c", "d"]
