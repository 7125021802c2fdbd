import csv
import json

from examples.esco.dataset import Dataset, Item, JudgedQuery
from examples.esco.evaluate import write_items, write_judged_requests


def test_judged_requests_are_one_json_line_a_query_with_store_keys(tmp_path):
    queries = [
        JudgedQuery("1", "cook", "test", ("occ2", "occ1"), (0, 2)),
        JudgedQuery("2", 'che"f', "test", ("occ3",), (1,)),
    ]
    write_judged_requests(queries, tmp_path / "judged.jsonl")
    lines = (tmp_path / "judged.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"prefix": {"query": "cook"}, "items": [{"key": "occ2"}, {"key": "occ1"}], "gains": [0, 2]},
        {"prefix": {"query": 'che"f'}, "items": [{"key": "occ3"}], "gains": [1]},
    ]


def test_items_are_written_with_the_text_the_encoder_reads(tmp_path):
    item = Item("occ1", "cook", 'Cooks "cook",\nand more.', "5120")
    write_items([item], tmp_path / "items.csv")
    with (tmp_path / "items.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [{"item_id": "occ1", "text": 'cook. Cooks "cook",\nand more.'}]


def test_every_item_of_the_data_survives_the_csv(tmp_path):
    items = Dataset.load().items
    write_items(items, tmp_path / "items.csv")
    with (tmp_path / "items.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["item_id"], row["text"]) for row in csv.DictReader(file)] == [
            (i.id, i.text) for i in items
        ]
