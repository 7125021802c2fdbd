"""`Tries`: those below a folder, by name. Opened when asked for, and again where another one took the place."""

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound
from rankport.protos.reasons import reason_of
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.generator.tries.trie import HEADER, TokenTrie
from rankport.runtime.options import check_folder

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_State = tuple[int, int]  # inode and time of the header


@dataclass(frozen=True, slots=True)
class TrieSearch:
    """Search over a trie, by beams of a width, for so many items."""

    trie: TokenTrie
    beams: int
    top_k: int
    name: str | None = None  # of the trie below a folder


class Tries:
    """Tries of a folder. Any thread may ask."""

    def __init__(self, root: str | None) -> None:
        """Takes the folder; None: there are none by name. Raises `InvalidRequest` for what is no folder."""
        if root is not None:
            check_folder("trie_root", root)
        self._root = None if root is None else Path(root)
        self._open: dict[str, tuple[_State, TokenTrie]] = {}
        self._lock = threading.Lock()

    def named(self, name: str) -> TokenTrie:
        """Maps a trie.

        Raises `InvalidRequest` for what is no name, `NotFound` for one that is not there, `StoreError` for a folder
        that is no trie, or one that was written over or cut.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"trie is {name!r:.60}: give its name, of letters, digits, underscores, hyphens and dots"
            )
        if self._root is None:
            raise InvalidRequest(
                f"trie is {name!r}: tries by name need a folder of them: serve --trie-root FOLDER"
            )
        state = self._state(self._root, name)
        with self._lock:
            known = self._open.get(name)
            if known is None or known[0] != state:
                self._forget_gone(self._root)
                self._open[name] = known = (state, TokenTrie.open(self._root / name))
        known[1].check()
        return known[1]

    def _forget_gone(self, root: Path) -> None:
        """Lets go of tries that stand there no more: names may be of a day, and a map keeps its file on the disk."""
        for name, (state, _) in tuple(self._open.items()):
            try:
                gone = self._state(root, name) != state
            except NotFound:
                gone = True
            if gone:
                del self._open[name]

    def _state(self, root: Path, name: str) -> _State:
        try:
            found = os.stat(root / name / HEADER)
        except OSError as error:
            raise NotFound(f"trie {name!r}: {reason_of(error)}; there are {_listed(root)}") from error
        return found.st_ino, found.st_mtime_ns


def check_fits(trie: TokenTrie, manifest: Manifest) -> None:
    """Raises `LimitExceeded`, `InvalidRequest` for a trie whose sequences a bundle may or can not write."""
    if trie.levels > manifest.limits.max_item_tokens:
        raise LimitExceeded(
            f"the trie's sequences have {counted(trie.levels, 'token')}: the bundle writes at most "
            f"{manifest.limits.max_item_tokens} (max_item_tokens)"
        )
    vocabulary = manifest.shape.vocab_size
    if trie.vocabulary > vocabulary:
        raise InvalidRequest(
            f"the trie is made for {counted(trie.vocabulary, 'token')}: the bundle has {vocabulary}: build "
            "it with --bundle"
        )


def _listed(root: Path) -> str:
    names = sorted(folder.name for folder in root.iterdir() if _NAME.fullmatch(folder.name))
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none"
