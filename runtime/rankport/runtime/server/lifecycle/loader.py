"""`Loader`: way from a path to a model, as a server that loads while it answers needs one."""

from typing import Protocol

from rankport.runtime.kinds.capabilities import Model
from rankport.runtime.server.lifecycle.roots import no_roots
from rankport.runtime.store.contract import TokenStore


class OpenedBundle(Protocol):
    """Bundle that was found, and is as it says."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def load(self) -> Model:
        """Loads it. Raises as its kind."""


class Loader(Protocol):
    """Way from a path to a model, and back to free memory. Called in threads."""

    @property
    def store(self) -> TokenStore | None:
        """Token store that the models read, if there is one."""

    def open(self, path: str) -> OpenedBundle:
        """Opens the bundle at a path, strictly. Raises `InvalidRequest` for a path that is none of the server's."""

    def close(self, model: Model, grace_s: float) -> None:
        """Closes a model that requests no longer find, if it is not its caller's."""


class NoLoader:
    """Loader of a server that has none."""

    store = None

    def open(self, path: str) -> OpenedBundle:
        raise no_roots(path)

    def close(self, model: Model, grace_s: float) -> None:
        """Leaves the model to whoever loaded it."""
