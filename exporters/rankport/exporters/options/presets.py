"""Presets: the prompts of known rerankers, as prompt files beside this module, and how their checkpoints are told.

Each file names the published code that it follows. Imports nothing heavy: the command line lists the names.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest

BARE = "bare"
"""Names the prompt of the fields and the bare item, framed as the tokenizer frames a text."""
CHAT = "chat"
"""Names the chat template of a generator's folder."""
_FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """A prompt that ships, and the checkpoints that it is for."""

    name: str
    models: str
    pattern: str  # of their names

    @property
    def file(self) -> Path:
        """The prompt file."""
        return _FOLDER / f"{self.name}.toml"


MONO_T5 = Preset("monot5", "monoT5", r"mono[-_]?t5")
PRESETS = (
    Preset("qwen3-reranker", "Qwen3-Reranker", r"qwen3[-_]reranker"),
    Preset("bge-gemma", "bge-reranker-v2-gemma", r"bge[-_]reranker[-_]v2[-_]gemma"),
    Preset("bge-gemma2-lightweight", "bge-reranker-v2.5-gemma2-lightweight", r"gemma2[-_]lightweight"),
    Preset("bge-minicpm", "bge-reranker-v2-minicpm-layerwise", r"minicpm[-_]layerwise"),
    MONO_T5,
    Preset("ctxl-rerank", "ctxl-rerank-v2", r"ctxl[-_]rerank[-_]v2"),
    Preset("mxbai", "mxbai-rerank-v2", r"mxbai[-_]rerank[-_](base|large)[-_]v2"),
    Preset("nemotron-rerank", "llama-nemotron-rerank", r"nemotron[-_]rerank|nv[-_]rerankqa"),
    Preset("rankllama", "RankLLaMA", r"rankllama"),
    Preset("zerank", "zerank", r"zerank[-_]\d"),
)
_PAIR_ENCODERS = (
    r"jina[-_](reranker[-_])?v[12]\b|jina[-_]reranker[-_]v[12]|bge[-_](reranker[-_])?(base|large|m3|v2[-_]m3)\b"
    r"|mxbai[-_]rerank[-_]\w+[-_]v1|ms[-_]marco[-_]minilm|gte[-_].*reranker[-_]base"
)
PRESET_WORDS = ", ".join(f"{preset.name} ({preset.models})" for preset in PRESETS)
_ENCODER_WORDS = (
    "a pair encoder: it reads prefix and item in both directions, so no prompt makes a ranker of it: export it "
    "with --kind cross-encoder"
)


def is_preset(named: object) -> bool:
    """Tells whether `--prompt` names a preset."""
    return any(str(named) == preset.name for preset in PRESETS)


def preset_for(names: str) -> Preset | None:
    """Finds the preset of a checkpoint by its names, of folder, config and card, in one text."""
    return next((preset for preset in PRESETS if re.search(preset.pattern, names, re.IGNORECASE)), None)


def pair_encoder_problem(names: str) -> str:
    """Says that a checkpoint of these names, or a preset asked for, is a pair encoder; empty where it is none known."""
    found = re.search(_PAIR_ENCODERS, names, re.IGNORECASE)
    return f"{found[0]} is {_ENCODER_WORDS}" if found else ""


def prompt_file_of(named: str) -> Path:
    """Finds the prompt file that `--prompt` names: a preset's, or a file (`./NAME` where a preset has the name).

    Raises:
        InvalidRequest: it is neither, or the chat of a kind that answers none; the message lists the presets.
    """
    for preset in PRESETS:
        if named == preset.name:
            return preset.file
    if named == CHAT:
        raise InvalidRequest(
            f"--prompt {CHAT}: a chat is what --kind generator answers: give a prompt file, or ./{CHAT} for one of "
            "that name"
        )
    if os.path.lexists(named):
        return Path(named)
    encoder = pair_encoder_problem(named)
    raise InvalidRequest(
        f"--prompt {named!r} is neither a file nor a preset{f' ({encoder})' if encoder else ''}: give a prompt file, "
        f"{BARE}, or one of {PRESET_WORDS}"
    ) from (FileNotFoundError(named) if os.sep in named or Path(named).suffix else None)
