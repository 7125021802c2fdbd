"""Attributes of models, and of code that is not ours, set for a while: the one place that puts them back."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_ABSENT = object()
_CHANGING = threading.RLock()


@contextmanager
def temporary_attributes(owner: object, values: Mapping[str, object], *, new: bool = False) -> Iterator[None]:
    """Sets attributes of an object, a module or a class, while open.

    What the owner itself had is set again behind it, also if an error passes; what came from its class comes from there
    again. With `new` some may be absent before, and are so again.

    All threads see the values. They are of one thread at a time: another that sets any waits until these are put back,
    as two that overlap would leave one of them behind for good. So a thread in here must not wait for another that sets
    some.

    Raises:
        AttributeError: the owner has no such attribute, and it is not to be `new`; or it takes none. None is set then.
    """
    with _CHANGING:
        before: dict[str, tuple[bool, object]] = {}
        try:
            for name, value in values.items():
                before[name] = _value(owner, name, new=new)
                setattr(owner, name, value)
            yield
        finally:
            for name, (own, value) in reversed(before.items()):
                _put_back(owner, name, value, own=own)


def _value(owner: object, name: str, *, new: bool) -> tuple[bool, object]:
    """Gives whether an attribute is the owner's own, and what it is; `_ABSENT` where there is none."""
    own = getattr(owner, "__dict__", {})
    if name in own:
        return True, own[name]  # of a class, as it is stored there
    return False, getattr(owner, name, _ABSENT) if new else getattr(owner, name)


def _put_back(owner: object, name: str, value: object, *, own: bool) -> None:
    if own or name not in getattr(owner, "__dict__", {}):  # a property's setter keeps it elsewhere
        if value is not _ABSENT and getattr(owner, name, _ABSENT) is not value:
            setattr(owner, name, value)
    else:
        delattr(owner, name)
