"""`Writer`: tokens to text as they come. Owns whole characters and the texts that stop."""

from collections.abc import Sequence

from rankport.runtime.prompt.tokenizer import Tokenizer


class Writer:
    """The text of one answer: what of it is certain, and what may still be the beginning of a stop text."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._decode = tokenizer.decoding()
        self._stops = stops
        self._ids: list[int] = []
        self._decoded = ""
        self._told = 0  # characters of it
        self.stopped = False  # by a stop text

    @property
    def text(self) -> str:
        """Everything that is told by now."""
        return self._decoded[: self._told]

    def add(self, token: int) -> str:
        """Adds a token, and returns what text is certain with it."""
        self._ids.append(token)
        return self._grow(self._decode(token))

    def end(self) -> str:
        """Ends the text, and returns what was held back: an incomplete character is U+FFFD, as in a whole decoding."""
        if self.stopped:
            return ""
        whole, more = self._tokenizer.text_of(self._ids), ""
        if whole.startswith(self._decoded):
            more = self._grow(whole[len(self._decoded) :])
        rest = "" if self.stopped else self._decoded[self._told :]
        self._told = len(self._decoded)
        return more + rest

    def _grow(self, more: str) -> str:
        self._decoded += more
        found = [at for stop in self._stops if (at := self._decoded.find(stop, self._told)) >= 0]
        if found:
            self.stopped = True
            self._decoded = self._decoded[: min(found)]
        certain = len(self._decoded) if self.stopped else len(self._decoded) - self._held()
        told = self._decoded[self._told : certain]
        self._told = max(certain, self._told)
        return told

    def _held(self) -> int:
        """Counts the last characters that may begin a stop text."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for count in range(min(longest, len(self._decoded)), 0, -1):
            if any(stop.startswith(self._decoded[-count:]) for stop in self._stops):
                return count
        return 0
