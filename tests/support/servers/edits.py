"""Edits of bytes, as fuzzers make them."""

from hypothesis import strategies as st

EDITS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255), st.sampled_from("xid")), max_size=4)


def edited(data: bytes, edits: list[tuple[int, int, str]]) -> bytes:
    """Exchanges, inserts or deletes bytes."""
    content = bytearray(data)
    for place, value, how in edits:
        at = place % (len(content) + 1)
        content[at : at + (how != "i")] = b"" if how == "d" else bytes([value])
    return bytes(content)
