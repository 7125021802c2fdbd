"""`RecordNamespace`: a namespace whose values are the records of `records`, as those in LMDB and in Redis are."""

from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.entries import TokenEntry
from rankport.runtime.store.records import CorruptValueError, ValueHeader, check_key, pack_value, read_header


class RecordNamespace(TokenNamespace):
    """Base of both. Where its records lie, a subclass knows."""

    def _header(
        self, key: str, name: bytes, value: memoryview, *, skip_corrupt: bool = False
    ) -> ValueHeader | None:
        """Reads the header of an item's value, stored under a name; None of a corrupt one that is to be skipped.

        Raises StoreError for another corrupt one.
        """
        try:
            header = read_header(name, value, self.spec)
            check_key(key, value, header)
        except CorruptValueError as error:
            if not skip_corrupt:
                raise self.corrupt(key, error) from error
            return None
        return header

    def _pack(self, entry: TokenEntry, written_us: int) -> bytes:
        self.check_entry(entry)
        return pack_value(entry.key, entry.tokens, self.spec, entry.content_hash, written_us)
