"""Attributes that are set for a while come back as they were, whatever kind of owner has them."""

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from rankport.exporters.temporary_attributes import temporary_attributes


class Owner:
    kind = "class"

    def __init__(self) -> None:
        self.own: object = 1
        self._kept = 2

    @staticmethod
    def unbound() -> int:
        return 3

    @property
    def kept(self) -> int:
        return self._kept

    @kept.setter
    def kept(self, value: int) -> None:
        self._kept = value


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("rankport_tests_made")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def test_an_object_has_again_what_it_had_and_what_its_class_has() -> None:
    owner = Owner()
    before = dict(vars(owner))
    with temporary_attributes(owner, {"own": 10, "kind": "own", "kept": 20, "unbound": int}):
        assert (owner.own, owner.kind, owner.kept, owner.unbound()) == (10, "own", 20, 0)
    assert vars(owner) == before
    assert (owner.kind, owner.unbound()) == ("class", 3)


def test_a_class_keeps_the_form_of_its_methods() -> None:
    before = dict(vars(Owner))
    with temporary_attributes(Owner, {"unbound": lambda *_: 4, "kind": "set"}):
        assert Owner().unbound() == 4
    assert dict(vars(Owner)) == before


def test_a_layer_has_its_own_layers_again() -> None:
    layer: Any = nn.Sequential(nn.Linear(2, 2))
    inner = layer[0]
    with temporary_attributes(layer, {"0": nn.Identity()}):
        assert isinstance(layer[0], nn.Identity)
    assert layer[0] is inner
    with temporary_attributes(inner.weight, {"data": torch.zeros(2, 2)}):
        assert not inner.weight.any()
    assert inner.weight.any()


def test_what_a_module_did_not_have_is_gone_again(module: ModuleType) -> None:
    with temporary_attributes(module, {"set": list}, new=True):
        assert module.set is list
    assert not hasattr(module, "set")
    with (
        pytest.raises(AttributeError, match="rankport_tests_made"),
        temporary_attributes(module, {"set": list}),
    ):
        pass


def test_nothing_stays_set_where_a_later_one_is_refused_or_an_error_passes() -> None:
    owner = Owner()
    with (
        pytest.raises(AttributeError, match="missing"),
        temporary_attributes(owner, {"own": 5, "missing": 6}),
    ):
        pass
    assert owner.own == 1
    with suppress(KeyError), temporary_attributes(owner, {"own": 5}), temporary_attributes(owner, {"own": 6}):
        assert owner.own == 6
        raise KeyError
    assert owner.own == 1


def test_two_threads_never_overlap() -> None:
    """Where they did, the second would find the first one's value, and leave it behind for good."""
    owner, inside, leave = Owner(), threading.Event(), threading.Event()
    found: list[object] = []

    def first() -> None:
        with temporary_attributes(owner, {"own": "first"}):
            inside.set()
            leave.wait(10)

    def second() -> None:
        with temporary_attributes(owner, {"own": "second"}):
            found.append(owner.own)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    threads[1].join(0.05)
    assert (found, owner.own) == ([], "first")
    leave.set()
    for thread in threads:
        thread.join(10)
    assert (found, owner.own) == (["second"], 1)
