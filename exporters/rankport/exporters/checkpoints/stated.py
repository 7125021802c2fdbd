"""The word of a checkpoint folder on what it is, before any weight is read."""

from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoints.forms.adapter_config import ADAPTER_CONFIG, base_of
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head


@dataclass(frozen=True, slots=True)
class StatedModel:
    """The class of a checkpoint, and whether sentence-transformers wrote its folder."""

    path: Path
    architecture: str  # of an adapter: its base's
    head: Head  # that the class ends in
    sentence_transformers: bool

    @classmethod
    def read(cls, path: Path, base: Path | None = None) -> "StatedModel":
        """Reads a folder's config, of an adapter that of its base. Raises as `load_checkpoint`."""
        folder = base_of(path, base) if (path / ADAPTER_CONFIG).is_file() else path
        architecture = CheckpointFolder.open(folder).architecture
        return cls(path, architecture, head_of(architecture), (path / "modules.json").is_file())


def speaking_folders(path: Path, base: Path | None = None) -> tuple[Path, ...]:
    """Lists the folders that say what a checkpoint is: itself, and the base of an adapter."""
    return (path, base_of(path, base)) if (path / ADAPTER_CONFIG).is_file() else (path,)


def head_of(architecture: str) -> Head:
    """Tells the head of a class of transformers by its name."""
    # Control LLM appends its own word to the class that it expands.
    original = architecture.removesuffix("Expansion")
    if original.endswith("ForSequenceClassification"):
        return "classification_head"
    if original.endswith(("CausalLM", "LMHeadModel")):
        return "lm_head"
    return "none"
