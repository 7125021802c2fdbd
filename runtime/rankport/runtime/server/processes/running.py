"""Server of one process or several, as its settings say."""

from collections.abc import Iterator
from contextlib import contextmanager

from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.observing.exporting import traces_exported
from rankport.runtime.server.observing.open_files import allow_open_files
from rankport.runtime.server.processes.supervisor import Supervisor, Work
from rankport.runtime.server.server import Server


@contextmanager
def running(work: Work) -> Iterator[Server | Supervisor]:
    """Serves until the end of the block. Raises as `Supervisor`, `ModelLoader` and `Server`."""
    allow_open_files()
    if work.server.fronts:
        with Supervisor(work) as supervisor:
            yield supervisor
        return
    with (
        traces_exported(),
        ModelLoader.opened(
            work.store,
            work.engine,
            frozen=work.frozen,
            write_back=work.write_back,
            roots=work.server.model_roots,
        ) as loader,
        Server(loader.load_all(work.bundles), work.server, loader) as server,
    ):
        yield server
