"""Pipelines of owners, in transformers and tokenizers alone, and the files of what they give."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForCausalLM

BOS, EOS, YES, NO = 1, 2, 4, 5
MAX_QUERY_TOKENS = 12
QUERIES = (
    "data engineer",
    "senior sales manager of the medical operator and the technical clerk for the chief judge in sales",
    "Nurse, junior",
)
TITLES = ("nurse", "chief cook.", "pilot in the sales", "software engineer", "judge.")


def owner_scores(checkpoint: Path, file: Path) -> Path:
    """Writes the probability of yes after "query {query}{title}.", the query cut, of each title."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    def score(query: str, title: str) -> float:
        prefix = [BOS, *ids("query"), *ids(query)[:MAX_QUERY_TOKENS]]
        with torch.no_grad():
            logits = model(torch.tensor([[*prefix, *ids(f"{title}."), EOS]])).logits[0, -1]
        return float(logits[[YES, NO]].softmax(0)[0])

    return _lines(
        file,
        (
            {"prefix": query, "items": TITLES, "scores": [score(query, title) for title in TITLES]}
            for query in QUERIES
        ),
    )


def owner_embeddings(checkpoint: Path, file: Path) -> Path:
    """Writes the mean of the last states of each text, framed as the tokenizer frames it."""
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    def embedding(text: str) -> list[float]:
        with torch.no_grad():
            states: torch.Tensor = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state
        values: list[float] = states[0].mean(0).tolist()
        return values

    return _lines(file, ({"item": text, "embedding": embedding(text)} for text in (*TITLES, *QUERIES)))


def judged_keys(keys: Sequence[str], file: Path) -> Path:
    """Writes a judged request of stored items."""
    items = [{"key": key} for key in keys]
    return _lines(file, [{"prefix": QUERIES[0], "items": items, "gains": [*range(len(keys))]}])


def _lines(file: Path, rows: Iterable[object]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
