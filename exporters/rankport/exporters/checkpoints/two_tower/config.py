"""`TwoTowerConfig`: config.json of a two-tower checkpoint, strictly read. It names everything that the module computes.

{"model_type": "rankport-two-tower", "architectures": ["RankportTwoTower"], "vocab_size": 30522,
 "max_query_tokens": 64, "max_item_tokens": 256,
 "towers": {"shared": {"type": "cnn", "embedding_size": 128}},
 "interactions": ["cosine", "hadamard"], "wide": [{"name": "bm25", "scaling": "mean-std", "mean": 9.1, "std": 5.2}],
 "head": {"hidden": [32], "outputs": ["relevant"]}, "objective": "listwise"}
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from rankport.exporters.checkpoints.own_form import OwnConfig
from rankport.protos.types import Side
from rankport.runtime.bundle.sections.wide import WideFeature, repeated_name
from rankport.runtime.bundle.strict import Strict

MODEL_TYPE: Final = "rankport-two-tower"
ARCHITECTURE: Final = "RankportTwoTower"

Place = Literal["shared", "query", "item"]
Interaction = Literal["cosine", "dot", "hadamard", "concat", "difference"]
TowerActivation = Literal["identity", "tanh", "relu", "gelu", "sigmoid"]
Objective = Literal["pointwise", "listwise"]
Count = Annotated[int, Field(gt=0)]

_SCALARS: Final = ("cosine", "dot")


class Projection(Strict):
    """Linear layer at the end of a tower, with its activation."""

    size: Count
    activation: TowerActivation = "identity"


class CnnTower(Strict):
    """Convolutions over word embeddings, the largest of each filter over the text."""

    type: Literal["cnn"]
    embedding_size: Count
    filters: Count = 128  # a window
    windows: Annotated[list[Count], Field(min_length=1)] = Field(default_factory=lambda: [3])
    # Windows over zeros around the text too, or inside of it alone.
    padding: Literal["same", "valid"] = "same"
    activation: TowerActivation = "relu"
    projection: Projection | None = None

    @property
    def own_width(self) -> int:
        """Values before the projection."""
        return self.filters * len(self.windows)


class LstmTower(Strict):
    """LSTM over word embeddings, the states at the end of the text."""

    type: Literal["lstm"]
    embedding_size: Count
    hidden_size: Count
    layers: Count = 1
    bidirectional: bool = False
    projection: Projection | None = None

    @property
    def own_width(self) -> int:
        """Values before the projection."""
        return self.hidden_size * (2 if self.bidirectional else 1)


class BertTower(Strict):
    """Body of transformers, an encoder or a decoder, its last hidden states pooled."""

    type: Literal["bert"]
    body: dict[str, Any]  # config.json of the body, by its own model_type
    pooling: Literal["cls", "mean", "max"] = "cls"
    projection: Projection | None = None

    @property
    def own_width(self) -> int:
        """Values before the projection."""
        size = self.body.get("hidden_size")
        return size if isinstance(size, int) else 0


Tower = Annotated[CnnTower | LstmTower | BertTower, Field(discriminator="type")]


class Head(Strict):
    """MLP over interactions and wide features: hidden layers with an activation, then one linear layer."""

    hidden: list[Count] = Field(default_factory=list)
    activation: TowerActivation = "relu"
    outputs: Annotated[list[str], Field(min_length=1)]  # names of the logits, in order
    positive: Annotated[int, Field(ge=0)] = 0  # which of them a score speaks for


def _architectures() -> list[Literal["RankportTwoTower"]]:
    return [ARCHITECTURE]


class TwoTowerConfig(OwnConfig):
    """Contents of config.json. Unknown fields are errors."""

    model_type: Literal["rankport-two-tower"] = MODEL_TYPE
    architectures: list[Literal["RankportTwoTower"]] = Field(default_factory=_architectures)
    vocab_size: Count
    max_query_tokens: Count = 64  # special tokens included
    max_item_tokens: Count = 256
    towers: dict[Place, Tower]  # one "shared", or "query" and "item"
    interactions: Annotated[list[Interaction], Field(min_length=1)]
    wide: list[WideFeature] = Field(default_factory=list)
    head: Head | None  # null: the one interaction, a cosine or dot product, is the score
    objective: Objective = "listwise"  # of the training; decides what a score is

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if set(self.towers) not in ({"shared"}, {"query", "item"}):
            raise ValueError(f"towers are {sorted(self.towers)}: give shared, or query and item")
        if len(set(self.interactions)) < len(self.interactions):
            raise ValueError(f"interactions {self.interactions} name one twice")
        if (name := repeated_name(self.wide)) is not None:
            raise ValueError(f"wide names {name!r} twice")
        widths = {place: width_of(tower) for place, tower in self.towers.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"towers have the widths {widths}: give one a projection of the other's size")
        self._check_head()
        return self

    def _check_head(self) -> None:
        if self.head is None:
            if len(self.interactions) != 1 or self.interactions[0] not in _SCALARS or self.wide:
                raise ValueError("head is null: then interactions is cosine or dot alone, and wide is empty")
            return
        if len(set(self.head.outputs)) < len(self.head.outputs):
            raise ValueError(f"head.outputs {self.head.outputs} name one twice")
        if self.head.positive >= len(self.head.outputs):
            raise ValueError(f"head.positive is {self.head.positive} of {len(self.head.outputs)} outputs")

    @property
    def width(self) -> int:
        """Values of a representation."""
        return width_of(next(iter(self.towers.values())))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the logits."""
        return tuple(self.interactions) if self.head is None else tuple(self.head.outputs)

    @property
    def shared(self) -> bool:
        """True where one tower reads queries and items."""
        return "shared" in self.towers

    @property
    def hidden_size(self) -> int:
        """The width, by the name that configs of transformers have for it."""
        return self.width

    def get_text_config(self) -> Self:
        """Gives the config itself, as those of transformers that have no parts do."""
        return self

    def place(self, side: Side) -> Place:
        """Names the tower that reads a side."""
        return "shared" if self.shared else side


def width_of(tower: Tower) -> int:
    """Values of a tower's representation."""
    return tower.own_width if tower.projection is None else tower.projection.size
