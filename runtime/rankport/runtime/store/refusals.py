"""Errors that every kind of store words alike."""

from shlex import quote

from rankport.protos.errors import StoreError


def corrupt_spec(fingerprint: str, value: bytes, location: str) -> StoreError:
    """Words the error of a spec that cannot be read."""
    return StoreError(
        f"token store {location}: the spec of encoder {fingerprint} is corrupt: {value[:200]!r}"
    )


def not_published(fingerprint: str, location: str) -> str:
    """Words why the tokens of an encoder are not there for who reads, and how they come to be."""
    way_out = f"`rankport store publish {fingerprint} --store {quote(location)}`"
    return f"the tokens of encoder {fingerprint} are not published yet: when they are complete, {way_out}"
