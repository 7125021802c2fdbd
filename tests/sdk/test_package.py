"""The shape of the package: what is exported, and what must never appear in the tree."""

import re
from importlib import import_module
from inspect import getmembers, isfunction
from pathlib import Path
from typing import get_type_hints

import rankport.sdk
from rankport.protos import errors
from rankport.sdk.client import Client
from rankport.sdk.model_admin import ModelAdmin
from rankport.sdk.server_jobs import ServerJobs

ROOT = Path(__file__).parents[2]


def test_the_public_names_are_these() -> None:
    required = {"export", "Ranker", "ItemEncoder", "TokenStore", "Client", "AsyncClient", "Key"}
    assert required <= set(dir(rankport.sdk))
    assert set(rankport.sdk.__all__) <= set(dir(rankport.sdk))
    for name in rankport.sdk.__all__:
        assert getattr(rankport.sdk, name).__name__ == name


def test_checkers_and_editors_are_told_of_the_names_that_there_are() -> None:
    stub = Path(rankport.sdk.__file__).with_suffix(".pyi").read_text()
    homes = {name: home for home, name in re.findall(r"^from (\S+) import (\w+) as \2$", stub, re.MULTILINE)}
    assert homes.keys() == set(dir(rankport.sdk))
    assert [
        name for name in homes if getattr(import_module(homes[name]), name) is not getattr(rankport.sdk, name)
    ] == []


def test_what_calls_give_and_raise_has_a_name_beside_them() -> None:
    functions = [
        function
        for owner in (Client, ModelAdmin, ServerJobs)
        for name, function in getmembers(owner, isfunction)
        if not name.startswith("_")
    ]
    told = " ".join(str(get_type_hints(function)["return"]) for function in functions)
    given = set(re.findall(r"rankport\.[\w.]+\.(\w+)", told))
    raised = {cls.__name__ for cls in errors.STATUS_CODES}
    assert {"LookupResult", "ModelVersion", "StreamedScore", "Job"} <= given
    assert given | raised <= set(dir(rankport.sdk))


def test_no_init_file_hides_the_other_source_roots() -> None:
    roots = ("sdk", "exporters", "runtime", "protos")
    assert [str(path) for root in roots for path in (ROOT / root / "rankport").glob("__init__.py")] == []
    assert all((ROOT / root / "rankport" / root / "py.typed").is_file() for root in roots)
