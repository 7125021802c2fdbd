"""The choice of unit groups that training never reads, on made-up queries."""

from examples.esco.holdout import MIXED, UNSEEN_QUERIES, choose_held_out, split_of


def test_both_splits_get_enough_queries_and_no_group_of_a_judged_query_is_chosen():
    units = [f"{unit:04d}" for unit in range(100)]
    trained = [frozenset([unit]) for unit in units for _ in range(4)]
    chosen = choose_held_out(trained, [frozenset(units[:30])])
    assert chosen.keys().isdisjoint(units[:30])
    for split in ("unseen-valid", "unseen-test"):
        assert 4 * list(chosen.values()).count(split) == UNSEEN_QUERIES
    assert chosen == choose_held_out(trained[::-1], [frozenset(units[:30])])


def test_a_query_is_unseen_only_where_all_its_groups_are_held_out_for_one_split():
    held_out = {"1": "unseen-test", "2": "unseen-test", "3": "unseen-valid"}
    assert split_of(frozenset("12"), held_out) == "unseen-test"
    assert split_of(frozenset("45"), held_out) == "train"
    assert split_of(frozenset("14"), held_out) == split_of(frozenset("13"), held_out) == MIXED
