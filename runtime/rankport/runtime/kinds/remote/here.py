"""Refusal of kinds whose engines have no messages yet."""

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.config import EngineConfig


def check_here(manifest: Manifest, config: EngineConfig) -> None:
    """Raises `InvalidRequest` where the engine of such a bundle is to be in another process."""
    if config.engines_at:
        raise InvalidRequest(
            f"bundle {manifest.name!r} is of kind {manifest.kind}, which front processes do not serve: leave --fronts "
            "out, or serve it by itself"
        )
