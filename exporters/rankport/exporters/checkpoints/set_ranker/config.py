"""`SetRankerConfig`: config.json of a ranker of sets, strictly read. It names everything that the module computes.

{"model_type": "rankport-set-ranker", "architectures": ["RankportSetRanker"], "hidden_size": 64, "attention_heads": 4,
 "blocks": ["ligr", "ligr"], "towers": [{"name": "passive", "outputs": ["click", "dwell"]}],
 "sets": {"tables": {"movie": {"rows": 4000, "width": 64}},
          "event": [{"source": "id", "name": "movie", "table": "movie"}],
          "candidate": [{"source": "id", "name": "movie", "table": "movie"}], "mask": {"policy": "set-wise"},
          "max_events": 512, "max_candidates": 1000}}
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from rankport.exporters.checkpoints.own_form import OwnConfig
from rankport.runtime.bundle.sections.sets import SetSchema
from rankport.runtime.bundle.strict import Sha256, Strict

MODEL_TYPE: Final = "rankport-set-ranker"
ARCHITECTURE: Final = "RankportSetRanker"

Block = Literal["ligr", "hstu"]
Count = Annotated[int, Field(gt=0)]


class Tower(Strict):
    """Heads that share hidden layers: an MLP over the state of a candidate."""

    name: str
    hidden: list[Count] = Field(default_factory=list)
    outputs: Annotated[list[str], Field(min_length=1)]  # names of the heads


def _architectures() -> list[Literal["RankportSetRanker"]]:
    return [ARCHITECTURE]


class SetRankerConfig(OwnConfig):
    """Contents of config.json. Unknown fields are errors."""

    model_type: Literal["rankport-set-ranker"] = MODEL_TYPE
    architectures: list[Literal["RankportSetRanker"]] = Field(default_factory=_architectures)
    hidden_size: Count
    attention_heads: Count
    blocks: Annotated[list[Block], Field(min_length=1)]
    ffn_multiple: Count = 4  # of LiGR's SwiGLU
    positions: Annotated[int, Field(ge=0)] = (
        0  # distances with a bias of their own, the last for all beyond; 0: none
    )
    time_buckets: Annotated[int, Field(ge=0)] = (
        0  # powers of two of seconds with a bias of their own; 0: none
    )
    attention_length: Count | None = None  # that HSTU divides by; null: the number of rows that are seen
    attention_scaled: bool = False  # HSTU's scores are divided by sqrt(head_dim), as LiGR's always are
    norm_epsilon: Annotated[float, Field(gt=0)] = 1e-5
    towers: Annotated[list[Tower], Field(min_length=1)]
    score: Literal["probability", "logit"] = (
        "probability"  # of a head: the sigmoid of its logit, or the logit
    )
    head_weights: dict[str, float] | None = None  # of the combination; null: 1 each
    encoder_fingerprint: Sha256 | None = None  # of the encoder whose tokens content features are
    sets: SetSchema

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.hidden_size % self.attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of {self.attention_heads} heads")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"towers: outputs {list(self.outputs)} name one twice")
        if bool(self.time_buckets) != self.sets.times:
            raise ValueError(
                f"time_buckets {self.time_buckets} and sets.times {self.sets.times} contradict each other"
            )
        unknown = sorted((self.head_weights or {}).keys() - set(self.outputs))
        if unknown:
            raise ValueError(f"head_weights: {unknown[0]!r} is no output of a tower")
        if self.head_weights is not None and not any(self.head_weights.values()):
            raise ValueError(f"head_weights: {self.head_weights} has no head that counts; null: 1 each")
        if self.attention_length is not None and "hstu" not in self.blocks:
            raise ValueError("attention_length: is HSTU's, and no block is hstu")
        if self.attention_scaled and "hstu" not in self.blocks:
            raise ValueError("attention_scaled: is HSTU's, and no block is hstu")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the heads, tower by tower."""
        return tuple(name for tower in self.towers for name in tower.outputs)

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.attention_heads

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the combination."""
        return self.head_weights or dict.fromkeys(self.outputs, 1.0)

    def get_text_config(self) -> Self:
        """Gives the config itself, as those of transformers that have no parts do."""
        return self
