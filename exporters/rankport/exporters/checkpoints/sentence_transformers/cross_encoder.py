"""The word of a CrossEncoder's folder on a ranker: tokens that answer, activation, limit of a pair, prompt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rankport.exporters.checkpoints.sentence_transformers.folder import CONFIG_FILE, stated_prompts
from rankport.exporters.checkpoints.sentence_transformers.logit_score import LogitScore, stated_logit_score
from rankport.exporters.checkpoints.sentence_transformers.messages import ChatMessages, chat_messages
from rankport.exporters.checkpoints.sentence_transformers.modules import (
    MODULES_FILE,
    stated_modules,
    transformer_folder,
)
from rankport.exporters.checkpoints.sentence_transformers.pair_head import scores_pairs
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.exporters.checkpoints.sentence_transformers.transformer import (
    check_pair_settings,
    pair_limit,
    pair_settings,
)
from rankport.protos.errors import CheckpointError

ScoreKind = Literal["probability", "logit"]
_ACTIVATIONS: dict[str, ScoreKind] = {"Sigmoid": "probability", "Identity": "logit"}


@dataclass(frozen=True, slots=True)
class CrossEncoderFolder:
    """Settings by which sentence-transformers makes a score of a pair."""

    logit_score: LogitScore | None  # of a language model
    score: ScoreKind | None  # by the activation that it states; None: it states none
    max_seq_length: int | None  # tokens of prefix and item together
    prompt: str  # that it puts before each pair by default
    messages: ChatMessages | None = None  # by which its chat template reads a pair
    is_own: bool = (
        False  # whether sentence-transformers wrote the folder, so that its owner runs it by that library
    )
    unused_prompts: tuple[str, ...] = ()  # names of those that are there, where none is put before a pair

    @property
    def notes(self) -> tuple[str, ...]:
        """Says what is left to whoever asks for scores."""
        if not self.unused_prompts:
            return ()
        return (
            f"no prompt is put before a pair: {CONFIG_FILE} has the prompts {', '.join(self.unused_prompts)} and no "
            "default",
        )

    @classmethod
    def read(cls, path: Path) -> "CrossEncoderFolder":
        """Reads a folder; one that is no CrossEncoder's states nothing. CheckpointError for what a ranker lacks."""
        config = Settings.read(transformer_folder(path) / "config.json")
        own = config.part("sentence_transformers")
        activation = own.text("activation_fn") or config.text("sbert_ce_default_activation_function")
        modules = stated_modules(path)
        pools = scores_pairs(path)
        if modules is None or (not pools and any(module.kind == "Pooling" for module in modules)):
            return cls(None, _score(config, activation), None, "", is_own=activation is not None)
        for module in modules:
            if not pools and module.kind not in ("Transformer", "LogitScore"):
                raise CheckpointError(
                    f"{path / MODULES_FILE} has a {module.kind} module, which a ranker's graph lacks: it would be "
                    "another model: serve this one with sentence-transformers"
                )
        check_pair_settings(transformer_folder(path))
        settings = Settings.read(path / CONFIG_FILE)
        stated = settings.text("activation_fn") or activation
        prompts, default = stated_prompts(settings)
        prompt = "" if default is None else prompts[default]
        settings.require("model_type", ["CrossEncoder"], "is no CrossEncoder: save it by that class")
        # Layers that stay in fp32 where others are in half precision.
        settings.ignore("__version__", "requirements", "keep_in_fp32_modules")
        settings.finish("remove it if it changes no score")
        return cls(
            logit_score=stated_logit_score(path),
            score=_score(settings, stated),
            max_seq_length=pair_limit(transformer_folder(path)),
            prompt=prompt,
            messages=chat_messages(pair_settings(transformer_folder(path))),
            is_own=True,
            unused_prompts=() if prompt else tuple(name for name, text in prompts.items() if text),
        )


def _score(settings: Settings, activation: str | None) -> ScoreKind | None:
    if activation is None:
        return None
    return settings.of_torch("activation_fn", activation, _ACTIVATIONS, "; set one, and --score")
