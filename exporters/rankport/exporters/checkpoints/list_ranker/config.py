"""`ListRankerConfig`: config.json of a list ranker, strictly read. It names everything that the module computes.

{"model_type": "rankport-list-ranker", "architectures": ["RankportListRanker"],
 "body": {"model_type": "qwen3", "hidden_size": 64, ...},
 "projector": [{"in_features": 64, "out_features": 32, "bias": false, "activation": "identity"}],
 "item_marker": "<item>", "query_marker": "<query>", "max_items": 20,
 "template": {"item": [{"number": 1}, {"text": ": "}, {"item": true}, {"mark": "item"}], "between": "\\n",
              "tail": [{"text": "\\nquery: "}, {"field": "query"}, {"mark": "query"}]}}
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from rankport.exporters.checkpoints.own_form import OwnConfig
from rankport.runtime.bundle.manifest import DenseLayer
from rankport.runtime.bundle.sections.lists import Join, ListReadOut, ListTemplate, check_joined

MODEL_TYPE: Final = "rankport-list-ranker"
ARCHITECTURE: Final = "RankportListRanker"

Count = Annotated[int, Field(gt=0)]


def _architectures() -> list[str]:
    return [ARCHITECTURE]


class ListRankerConfig(OwnConfig):
    """Contents of config.json. Unknown fields are errors."""

    model_type: Literal["rankport-list-ranker"] = MODEL_TYPE
    architectures: list[str] = Field(default_factory=_architectures)
    body: dict[str, Any]  # config of a decoder of transformers
    projector: list[DenseLayer] = Field(default_factory=list)  # from the state at a marker to its vector
    read_out: ListReadOut = "cosine"  # of the vectors of item and query, or the item's one value as a logit
    score: Literal["probability", "logit"] = "probability"  # of a logit: its sigmoid, or itself
    template: ListTemplate
    item_marker: str | None = None  # null where the template reads items alone
    query_marker: str | None = None
    max_items: Count  # of a block
    max_item_tokens: Count | None = None  # null: as many as there is room for
    max_query_tokens: Count | None = None
    max_tokens: Count | None = None  # of a block; null: as many as there are positions
    join: Join = "independent"

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.architectures != _architectures():
            raise ValueError(f"architectures: is {self.architectures}, must be {_architectures()}")
        if (self.query_marker is not None) != self.template.marks_query:
            raise ValueError("query_marker goes with a segment mark = query of the template")
        if (self.item_marker is None) != bool(self.template.alone):
            raise ValueError(
                "item_marker goes with a segment mark = item of the template, and alone has none"
            )
        check_joined(self.template, self.read_out, self.join)
        for index, (before, layer) in enumerate(zip(self.projector, self.projector[1:], strict=False), 1):
            if layer.in_features != before.out_features:
                raise ValueError(
                    f"projector[{index}].in_features: is {layer.in_features}, what comes in has {before.out_features}"
                )
        if self.read_out == "logit" and (not self.projector or self.projector[-1].out_features != 1):
            raise ValueError("projector: a logit is 1 wide: the last layer must have out_features 1")
        if self.read_out == "logit" and self.join == "mean-query":
            raise ValueError("join is mean-query: a logit has no query that could be averaged")
        return self

    def width(self, hidden_size: int) -> int:
        """Counts the values at a marker, of a body with this hidden size."""
        return self.projector[-1].out_features if self.projector else hidden_size

    @property
    def markers(self) -> tuple[str, ...]:
        """Names of the markers, the item's first."""
        return tuple(name for name in (self.item_marker, self.query_marker) if name is not None)
