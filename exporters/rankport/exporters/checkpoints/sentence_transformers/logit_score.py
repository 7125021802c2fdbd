"""A CrossEncoder folder of a language model: the tokens whose logits answer."""

from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoints.sentence_transformers.modules import stated_modules
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings


@dataclass(frozen=True, slots=True)
class LogitScore:
    """Token ids of the answers; the score is the first one's logit, less that of the second where there is one."""

    true_token_id: int
    false_token_id: int | None

    @property
    def ids(self) -> tuple[int, ...]:
        """The positive token first."""
        return (
            (self.true_token_id,)
            if self.false_token_id is None
            else (self.true_token_id, self.false_token_id)
        )


def stated_logit_score(path: Path) -> LogitScore | None:
    """Reads the LogitScore module that `modules.json` names; None if there is none. Raises CheckpointError."""
    for module in stated_modules(path) or ():
        if module.kind != "LogitScore":
            continue
        settings = Settings.read(module.folder / "config.json")
        settings.require("module_input_name", ["causal_logits"], "must be causal_logits")
        positive = settings.count("true_token_id", least=0)
        negative = settings.count("false_token_id", least=0)
        settings.finish("remove it if it changes no score")
        if positive is None:
            raise settings.error("true_token_id", None, "must be the id of the token that says yes")
        return LogitScore(positive, negative)
    return None
