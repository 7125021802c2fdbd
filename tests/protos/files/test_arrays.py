"""Damaged files of arrays: whatever numpy raises of one is known."""

import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.files.arrays import UNREADABLE
from rankport.protos.reasons import array_reason

WRITERS: dict[str, Callable[..., None]] = {
    "npy": lambda path: np.save(path, np.arange(40.0)),
    "npz": lambda path: np.savez(path, a=np.arange(40.0)),
    "compressed": lambda path: np.savez_compressed(path, a=np.arange(40.0), b=np.arange(9)),
}


@pytest.mark.parametrize("form", WRITERS)
def test_whatever_is_wrong_with_a_file_is_told_apart_from_our_own_faults(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"whole.{'npy' if form == 'npy' else 'npz'}"
    WRITERS[form](path)
    whole, draw, refused = path.read_bytes(), random.Random(7), 0
    for _ in range(200):
        content = bytearray(whole[: draw.randrange(len(whole))] if draw.random() < 0.2 else whole)
        for _ in range(draw.randrange(1, 6) if content else 0):
            content[draw.randrange(len(content))] = draw.randrange(256)
        try:
            found = np.load(BytesIO(content), allow_pickle=False)
            if not isinstance(found, np.ndarray):
                with found:
                    dict(found)
        except UNREADABLE:
            refused += 1
    assert refused > 20


def test_advice_to_unpickle_is_not_passed_on() -> None:
    objects = BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    for content in (objects.getvalue(), b"user,text\n"):
        with pytest.raises(ValueError, match="allow_pickle") as refused:
            np.load(BytesIO(content), allow_pickle=False)
        assert array_reason(refused.value).endswith("never loaded")
    assert array_reason(ValueError("a header")) == "a header"
