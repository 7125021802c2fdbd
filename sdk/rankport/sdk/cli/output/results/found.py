"""Items that a search over a trie found, as `rankport generate --trie` asks for and tells them."""

import json
from dataclasses import asdict

import typer

from rankport.protos.generation import SearchResult
from rankport.protos.messages.search_wire import BEAMS, TOP_K
from rankport.protos.types import Prefix
from rankport.sdk.cli.output.writing import writing


def search(
    model: object, prompt: Prefix, trie: str, beams: int | None, top_k: int | None, timeout_s: float | None
) -> SearchResult:
    """Searches with a `Client`, by the trie's name, or a `Generator`, by its folder."""
    from rankport.sdk.client import Client

    width, count = BEAMS if beams is None else beams, TOP_K if top_k is None else top_k
    if isinstance(model, Client):
        return model.search(prompt, trie, timeout_s, beams=width, top_k=count)
    from rankport.runtime.kinds.generator.generator import Generator
    from rankport.runtime.kinds.generator.tries.trie import TokenTrie

    assert isinstance(model, Generator)
    return model.search(prompt, TokenTrie.open(trie), timeout_s, beams=width, top_k=count)


def write_found(result: SearchResult, as_json: bool) -> None:
    """Writes a line an item, score and key, or one JSON object."""
    with writing("standard output"):
        if as_json:
            typer.echo(json.dumps(_told(result), ensure_ascii=False))
            return
        for key, score in zip(result.keys, result.scores.tolist(), strict=True):
            typer.echo(f"{score:.4f}\t{key}")


def _told(result: SearchResult) -> dict[str, object]:
    return {
        "keys": list(result.keys),
        "scores": result.scores.tolist(),
        "token_ids": result.token_ids.tolist(),
        "usage": asdict(result.usage),
    }
