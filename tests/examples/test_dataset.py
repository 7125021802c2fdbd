from collections import Counter

import pytest

from examples.esco.dataset import DATA_DIR, EVALUATION_SPLITS, Dataset, fold, variant_key


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.load()


def test_the_data_are_those_of_their_source_note(dataset):
    splits = Counter(query.split for query in dataset.queries)
    assert len(dataset.items) == 2590
    assert splits == {"train": 1200, "valid": 120, "test": 120}
    assert sum(len(query.item_ids) for query in dataset.queries) == 28_800
    assert (
        "This uses the ESCO classification of the European Commission."
        in (DATA_DIR / "SOURCE.md").read_text()
    )


def test_no_evaluation_phrase_is_a_training_phrase(dataset):
    held_out = {fold(query.text) for split in EVALUATION_SPLITS for query in dataset.split(split)}
    assert held_out.isdisjoint(fold(phrase.text) for phrase in dataset.phrases)
    assert len(held_out) == 240
    assert len(dataset.phrases) > 27_000


def test_train_queries_are_kept_unless_they_vary_an_evaluation_phrase(dataset):
    texts = {phrase.text for phrase in dataset.phrases}
    held_out = {variant_key(query.text) for split in EVALUATION_SPLITS for query in dataset.split(split)}
    dropped = [query for query in dataset.split("train") if fold(query.text) not in texts]
    assert len(dropped) < 5
    assert all(variant_key(query.text) in held_out for query in dropped)


def test_no_plural_or_reordered_evaluation_phrase_is_a_training_phrase(dataset):
    held_out = {variant_key(query.text) for split in EVALUATION_SPLITS for query in dataset.split(split)}
    assert held_out.isdisjoint(variant_key(phrase.text) for phrase in dataset.phrases)
    assert variant_key("Machine-Operators, wood") == variant_key("wood machine operator")


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
    with pytest.raises(ValueError, match="'dev' is none of train, valid, test"):
        dataset.split("dev")
