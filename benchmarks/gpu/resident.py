"""Requests that name keys: tokens read from the store for each, against tokens that stay on the device."""

from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from benchmarks.gpu.in_process import Contender, Ids
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.stored import Catalogue, resident_bytes, stored_catalogue
from rankport.protos.types import Key, ScoreResult
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.on_devices import ranker_engines
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.keyed_items import KeyedItems

_ITEM_SETS = 16


def main() -> None:
    """Loads the bundle once a way."""
    part = arguments(__doc__)
    bundle = open_bundle(part.bundle)
    with stored_catalogue(bundle.manifest) as catalogue:
        ways = {"keys, read from the store": part.engine}
        if part.device == "cuda":
            nbytes = resident_bytes(bundle.manifest)
            ways["keys, tokens on the device"] = replace(part.engine, device_tokens_bytes=nbytes)
        for name, config in ways.items():
            _measure(part, bundle, catalogue, name, config)
    part.figures.add("done", True)


def _measure(part: Part, bundle: Bundle, catalogue: Catalogue, name: str, config: EngineConfig) -> None:
    engines = ranker_engines(bundle, config, catalogue.tokens)
    items = KeyedItems(bundle.manifest, catalogue.tokens, engines.resident)
    prompt = PromptEncoder.from_bundle(bundle)
    with Ranker(bundle.manifest, prompt, engines.engines, items, on_close=engines.close) as ranker:
        for request in part.requests:
            if not request.mixed or not part.enough(8 if part.device == "cuda" else 0, request.name):
                continue
            sets = catalogue.drawn(_ITEM_SETS, request.items)
            contender = Contender(part, request, {name: partial(_submit, ranker, sets)})
            contender.round(name, fresh=True, windows=1)
            for fresh in (True, False):
                figures = contender.measure(name, fresh=fresh)
                part.figures.add(f"{request.name} {name}, {'fresh' if fresh else 'cached'} prefixes", figures)
            part.figures.add(f"{request.name} {name}, one query alone", contender.latencies())


def _submit(ranker: Ranker, sets: list[list[Key]], prefix: Ids, index: int) -> Future[ScoreResult]:
    return ranker.submit(prefix.tolist(), sets[index % _ITEM_SETS])


if __name__ == "__main__":
    main()
