"""Names of a token store's keys in Redis. Pure functions, no I/O.

    {prefix}:meta                        hash: "format" -> JSON; fingerprint -> "published" or "filling", blank, spec
    {prefix}:version                     random, another after every write
    {prefix}:writer:{id}                 batches that a writer had confirmed, for a day
    {prefix}:t:{fingerprint}:{key}       value of an item, as `records` has its bytes
    {prefix}:h:{fingerprint}:{hash}      value of an item whose key is over 510 bytes: its BLAKE2b, in hexadecimal

No name has braces but those of item keys, so a cluster spreads the items over its slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_SHORT = b"\x00"


@dataclass(frozen=True, slots=True)
class KeyNames:
    """Keys of one store."""

    prefix: str

    @property
    def meta(self) -> bytes:
        """Hash of the format and the encoders' specs."""
        return f"{self.prefix}:meta".encode()

    @property
    def version(self) -> bytes:
        """Value that differs after every write."""
        return f"{self.prefix}:version".encode()

    def writer(self, writer: str) -> bytes:
        """Counter of the batches that a writer had confirmed."""
        return f"{self.prefix}:writer:{writer}".encode()

    def items(self, fingerprint: str, names: Sequence[bytes]) -> list[bytes]:
        """Keys of an encoder's items by their storage keys."""
        short = f"{self.prefix}:t:{fingerprint}:".encode()
        long = f"{self.prefix}:h:{fingerprint}:".encode()
        return [
            short + name[1:] if name.startswith(_SHORT) else long + name[1:].hex().encode() for name in names
        ]

    def pattern(self, fingerprint: str) -> bytes:
        """Pattern of the keys that `items` makes."""
        return f"{self.prefix}:[th]:{fingerprint}:*".encode()

    def storage_key(self, fingerprint: str, key: bytes) -> bytes:
        """Reads back the storage key of an item."""
        start = len(f"{self.prefix}:t:{fingerprint}:")
        if key[len(self.prefix) + 1 : len(self.prefix) + 2] == b"t":
            return _SHORT + key[start:]
        return b"\x01" + bytes.fromhex(key[start:].decode())
