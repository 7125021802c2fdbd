"""`Writer`: tokens to text as they come. Owns whole characters and the texts that stop."""

from collections.abc import Sequence

from rankport.runtime.prompt.tokenizer import Tokenizer

_INCOMPLETE = "\ufffd"


class TokenTexts:
    """Additions of each further token to a text: whole characters.

    Of the tokens before it those are decoded again that the last addition was made of: a space may depend on them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._text_of, self._name_of = tokenizer.text_of, tokenizer.decode
        self._ids: list[int] = []  # those that are decoded again, and those that have added nothing yet
        self._told_ids = 0  # of these
        self._told = ""  # what they are as a text

    def add(self, token: int) -> str:
        """Adds a token; "" while a character is incomplete."""
        self._ids.append(token)
        now = self._text_of(self._ids)
        more = "" if now.endswith(_INCOMPLETE) else _behind(self._told, now)
        if more:
            self._ids = self._ids[self._told_ids :]
            self._told_ids, self._told = len(self._ids), self._text_of(self._ids)
        return more

    def would_add(self, token: int) -> str:
        """Tells what a token would add, with what is incomplete before it; its name where it adds nothing."""
        return _behind(self._told, self._text_of([*self._ids, token])) or self._name_of([token])

    def rest(self) -> str:
        """Gives what tokens have not added yet, incomplete as it is."""
        return _behind(self._told, self._text_of(self._ids))


def _behind(told: str, now: str) -> str:
    """Gives what is new of a text.

    Where bytes are tokens, those that follow each other are U+FFFD each if one of them is of no character: of such as
    were told as characters nothing is told again.
    """
    if now.startswith(told):
        return now[len(told) :]
    same = next(
        (place for place, (one, other) in enumerate(zip(told, now, strict=False)) if one != other), len(now)
    )
    return now[same + len(told[same:].encode()) :]


class Writer:
    """The text of one answer: what of it is certain, and what may still be the beginning of a stop text."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], min_tokens: int = 0) -> None:
        """Takes the texts that stop it, once they end behind the text of its first `min_tokens`."""
        self._tokens = TokenTexts(tokenizer)
        self._stops, self._min_tokens = stops, min_tokens
        self._added = 0  # tokens
        self._least = 0  # characters that no stop text ends in
        self._decoded = ""
        self._told = 0  # characters of it
        self.stopped = False  # by a stop text

    @property
    def text(self) -> str:
        """Everything that is told by now."""
        return self._decoded[: self._told]

    def add(self, token: int) -> str:
        """Adds a token, and returns what text is certain with it."""
        self._added += 1
        return self._grow(self._tokens.add(token))

    def would_add(self, token: int) -> str:
        """Tells what a token would add to the text, its name where that is nothing."""
        return self._tokens.would_add(token)

    def end(self) -> str:
        """Ends the text, and returns what was held back: an incomplete character is U+FFFD, as in a whole decoding."""
        if self.stopped:
            return ""
        more = self._grow(self._tokens.rest())
        rest = "" if self.stopped else self._decoded[self._told :]
        self._told = len(self._decoded)
        return more + rest

    def _grow(self, more: str) -> str:
        self._decoded += more
        if self._added <= self._min_tokens:
            self._least = len(self._decoded)
        found = [at for stop in self._stops if (at := self._decoded.find(stop, self._first(stop))) >= 0]
        if found:
            self.stopped = True
            self._decoded = self._decoded[: min(found)]
        certain = len(self._decoded) if self.stopped else len(self._decoded) - self._held()
        told = self._decoded[self._told : certain]
        self._told = max(certain, self._told)
        return told

    def _first(self, stop: str) -> int:
        """Finds the first place where a stop text may begin."""
        return max(self._told, self._least + 1 - len(stop)) if self._least else self._told

    def _held(self) -> int:
        """Counts the last characters that may begin a stop text."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        untold = len(self._decoded) - self._told  # what is told begins none
        for count in range(min(longest, untold), 0, -1):
            if any(stop.startswith(self._decoded[-count:]) for stop in self._stops):
                return count
        return 0
