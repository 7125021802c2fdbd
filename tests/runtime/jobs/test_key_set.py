"""`KeySet` holds what a set holds, in fewer bytes."""

import random

from rankport.runtime.jobs.key_set import KeySet


def test_it_is_a_set_of_keys_whatever_they_are_added_in() -> None:
    drawn = random.Random(0)
    keys, known = KeySet(), set[str]()
    for size in [0, 1, 3, 700, 5000, 2, 20_000]:
        some = [f"{'é' * drawn.randrange(3)}{drawn.randrange(20_000)}" for _ in range(size)]
        told = keys.add(some)
        expected = []
        for key in some:
            expected.append(key not in known)
            known.add(key)
        assert told == expected
        assert len(keys) == len(known)
    asked = [f"{number}" for number in range(25_000)]
    assert keys.has(asked) == [key in known for key in asked]
    assert keys.has([]) == []


def test_a_key_takes_few_bytes_whatever_its_length() -> None:
    keys = KeySet()
    for start in range(0, 100_000, 2048):
        assert all(keys.add([f"{'k' * 200}{number}" for number in range(start, start + 2048)]))
    assert 16 < keys.nbytes / len(keys) <= 46


def test_single_keys_are_there_when_they_are_asked_for() -> None:
    keys = KeySet()
    for number in range(9000):
        keys.note(f"{number % 5000}")
    assert keys.has(["0", "4999", "5000"]) == [True, True, False]
    assert keys.add(["4998", "5001"]) == [False, True]
    keys.note("5002")
    assert keys.add(["5002"]) == [False]
    assert len(keys) == 5002
