"""The shape of the package: what is exported, and what must never appear in the tree."""

from pathlib import Path

import rankport.sdk

ROOT = Path(__file__).parents[2]


def test_the_public_names_are_these() -> None:
    required = {"export", "Ranker", "ItemEncoder", "TokenStore", "Client", "AsyncClient", "Key"}
    assert required <= set(dir(rankport.sdk))
    assert set(rankport.sdk.__all__) <= set(dir(rankport.sdk))
    for name in rankport.sdk.__all__:
        assert getattr(rankport.sdk, name).__name__ == name


def test_no_init_file_hides_the_other_source_roots() -> None:
    roots = ("sdk", "exporters", "runtime", "protos")
    assert [str(path) for root in roots for path in (ROOT / root / "rankport").glob("__init__.py")] == []
    assert all((ROOT / root / "rankport" / root / "py.typed").is_file() for root in roots)
