from collections import Counter

import pytest

from examples.esco.dataset import (
    DATA_DIR,
    EVALUATION_SPLITS,
    QUERY_SPLITS,
    Dataset,
    fold,
    letters,
    variant_key,
)
from examples.esco.holdout import UNSEEN_SPLITS


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.load()


def test_the_data_are_those_of_their_source_note(dataset):
    splits = Counter(query.split for query in dataset.queries)
    assert len(dataset.items) == 2590
    assert splits == {
        "train": 951,
        "valid": 120,
        "test": 120,
        "unseen-valid": 120,
        "unseen-test": 121,
        "mixed": 8,
    }
    assert sum(len(query.item_ids) for query in dataset.queries) == 28_800
    assert (
        "This uses the ESCO classification of the European Commission."
        in (DATA_DIR / "SOURCE.md").read_text()
    )


def test_no_evaluation_phrase_is_a_training_phrase(dataset):
    held_out = {fold(query.text) for split in EVALUATION_SPLITS for query in dataset.split(split)}
    assert held_out.isdisjoint(fold(phrase.text) for phrase in dataset.phrases)
    assert len(held_out) == 481
    assert len(dataset.phrases) == 22_767


def test_train_queries_are_kept_but_for_a_few_variants_of_what_is_held_out(dataset):
    texts = {phrase.text for phrase in dataset.phrases}
    assert sum(fold(query.text) not in texts for query in dataset.split("train")) < 5


def test_the_unseen_splits_share_no_item_and_no_title_with_training(dataset):
    read = {dataset.items[row].id for row in dataset.training_rows()}
    assert (len(read), len(dataset.held_out)) == (2105, 485)
    assert read.isdisjoint(dataset.held_out)
    named = {id for phrase in dataset.phrases for id in phrase.item_ids}
    assert named <= read
    words = {variant_key(phrase.text) for phrase in dataset.phrases}
    spellings = {letters(phrase.text) for phrase in dataset.phrases}
    titles = [item.title for item in dataset.items if item.id in dataset.held_out]
    queries = [query for split in UNSEEN_SPLITS for query in dataset.split(split)]
    for text in [*titles, *(query.text for query in queries)]:
        assert variant_key(text) not in words
        assert letters(text) not in spellings


def test_every_relevant_item_of_an_unseen_split_is_held_out_and_none_of_the_others_is(dataset):
    relevant = {
        split: {
            id for q in dataset.split(split) for id, gain in zip(q.item_ids, q.gains, strict=True) if gain
        }
        for split in EVALUATION_SPLITS
    }
    for split in UNSEEN_SPLITS:
        assert relevant[split] <= dataset.held_out
    for split in QUERY_SPLITS:
        assert relevant[split].isdisjoint(dataset.held_out)
    assert relevant["unseen-valid"].isdisjoint(relevant["unseen-test"])


def test_unit_groups_are_held_out_whole_so_no_near_twin_of_an_unseen_item_is_read(dataset):
    held_out = {item.isco for item in dataset.items if item.id in dataset.held_out}
    read = {dataset.items[row].isco for row in dataset.training_rows()}
    assert held_out.isdisjoint(read)
    assert len(held_out) == 86


def test_no_plural_or_reordered_evaluation_phrase_is_a_training_phrase(dataset):
    held_out = {variant_key(query.text) for split in EVALUATION_SPLITS for query in dataset.split(split)}
    assert held_out.isdisjoint(variant_key(phrase.text) for phrase in dataset.phrases)
    assert variant_key("Machine-Operators, wood") == variant_key("wood machine operator")
    assert letters("Power-line worker") == letters("powerline worker")


def test_every_query_has_twenty_known_items_and_an_exact_one(dataset):
    rows = dataset.rows()
    for query in dataset.queries:
        assert len(query.item_ids) == len(set(query.item_ids)) == len(query.gains) == 20
        assert set(query.item_ids) <= rows.keys()
        assert set(query.gains) <= {0, 1, 2}
        assert 2 in query.gains


def test_a_phrase_of_several_occupations_names_them_all(dataset):
    owners = Counter(len(phrase.item_ids) for phrase in dataset.phrases)
    assert owners[2] > 0
    assert len({phrase.text for phrase in dataset.phrases}) == len(dataset.phrases)


def test_phrases_fold_by_case_and_spaces():
    assert fold(" Straße  Cleaner ") == fold("STRASSE cleaner")


def test_an_unknown_split_is_refused(dataset):
    with pytest.raises(ValueError, match="'dev' is none of train, valid, test, unseen-valid"):
        dataset.split("dev")
