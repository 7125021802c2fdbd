"""`HostedWriting`: the engine of a writing bundle for models of other processes: columns in, columns out."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from rankport.protos.generation import GeneratedPart
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines.local import LocalWriting
from rankport.runtime.kinds.generator.engines.remote import (
    items_columns,
    likelihoods_columns,
    part_columns,
    read_sampling,
    written_columns,
)
from rankport.runtime.kinds.generator.tries.tries import Tries, TrieSearch, check_fits
from rankport.runtime.kinds.remote.messages import read_run, read_runs
from rankport.runtime.links.columns import Columns
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.tokens import TokenRun

Tell = Callable[[Columns], None]


class HostedWriting:
    """Reads what is asked of the engine. It has the tokenizer too: characters may end a text, or a grammar."""

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        """Loads the engine. Raises as `LocalWriting.load`."""
        name = bundle.manifest.tokenizer
        tokenizer = None if name is None else Tokenizer.from_file(bundle.file(name))
        self._manifest = bundle.manifest
        self._tries = Tries(config.trie_root)
        self.engine = LocalWriting.load(bundle, config, tokenizer, config.device_ids[0])

    def begin(self, request: Columns, tell: Tell) -> "Future[Columns]":
        """Queues a request; `tell` is told the parts of a text, where they are asked for. Raises as the engine."""
        prompt = read_run("prompt", request.arrays)
        match request.values["ask"]:
            case "write":
                return self._write(prompt, request, tell)
            case "search":
                return self._search(prompt, request)
            case _:
                return self._score(prompt, request)

    def _write(self, prompt: TokenRun, request: Columns, tell: Tell) -> "Future[Columns]":
        values = request.values
        future = self.engine.write(
            prompt,
            read_sampling(values["sampling"]),
            values["timeout_s"],
            spent_s=values["spent_s"],
            on_part=partial(_tell_part, tell) if values["parts"] else None,
        )
        return converted(future, written_columns)

    def _search(self, prompt: TokenRun, request: Columns) -> "Future[Columns]":
        values, trie = request.values, self._tries.named(request.values["trie"])
        check_fits(trie, self._manifest)  # it may be another one than the front had
        search = TrieSearch(trie, values["beams"], values["top_k"])
        future = self.engine.search(prompt, search, values["timeout_s"], spent_s=values["spent_s"])
        return converted(future, items_columns)

    def _score(self, prompt: TokenRun, request: Columns) -> "Future[Columns]":
        values, items = request.values, read_runs("items", request.arrays)
        ends = request.arrays["ends"].tolist()
        future = self.engine.score(prompt, items, ends, values["timeout_s"], spent_s=values["spent_s"])
        return converted(future, likelihoods_columns)


def _tell_part(tell: Tell, part: GeneratedPart) -> None:
    tell(part_columns(part))
