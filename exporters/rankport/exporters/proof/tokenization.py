"""Reports how often a prompt's segments, tokenized apart, differ from their joined text tokenized at once."""

from collections.abc import Mapping, Sequence

import numpy as np

from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.exporters.options.requests_file import JudgedRequest
from rankport.runtime.bundle.manifest import TokenizationReport
from rankport.runtime.prompt.prompt_file import tokenization_difference
from rankport.runtime.prompt.tokenizer import Tokenizer

_SAMPLES = 200
_LONGEST_TOKENS = 12


def report_tokenization(prompt: ResolvedPrompt, judged: Sequence[JudgedRequest]) -> TokenizationReport | None:
    """Reports on judged requests' texts, or texts drawn from the vocabulary; None without a tokenizer or a prefix."""
    if prompt.tokenizer is None or not prompt.prompt.fields:
        return None
    pairs = _judged_texts(judged)
    source = "judged requests" if pairs else "texts drawn from the vocabulary"
    samples, different = tokenization_difference(
        prompt.prompt, prompt.tokenizer, pairs or _drawn_texts(prompt.tokenizer)
    )
    return TokenizationReport(samples=samples, different=different, source=source)


def _judged_texts(judged: Sequence[JudgedRequest]) -> list[tuple[str | Mapping[str, str], str]]:
    return [
        (request.prefix, item)
        for request in judged
        for item in request.items
        if isinstance(item, str) and isinstance(request.prefix, str | Mapping)
    ]


def _drawn_texts(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    rng = np.random.default_rng(0)
    special = set(tokenizer.special_tokens())

    def text() -> str:
        while True:
            drawn = tokenizer.decode(rng.integers(0, tokenizer.vocab_size, rng.integers(1, _LONGEST_TOKENS)))
            if drawn.strip() and not any(name in drawn for name in special):
                return drawn

    return [(text(), text()) for _ in range(_SAMPLES)]
