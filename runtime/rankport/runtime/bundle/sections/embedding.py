"""The sections `embedding` and `head` of a manifest: what is made of pooled hidden states, and how."""

from typing import Annotated, Literal

from pydantic import Field

from rankport.runtime.bundle.strict import Strict

Pooling = Literal["last-k", "cls", "mean", "max", "mean-sqrt-len", "weighted-mean"]
AVERAGES: tuple[Pooling, ...] = ("mean", "mean-sqrt-len", "weighted-mean")
"""Poolings that are sums over tokens: those of a prefix can be computed once."""
Activation = Literal["identity", "tanh", "relu", "gelu", "silu", "sigmoid"]


class DenseLayer(Strict):
    """Linear layer over pooled states, with its activation; in the graph like the rest."""

    in_features: Annotated[int, Field(gt=0)]
    out_features: Annotated[int, Field(gt=0)]
    bias: bool = True
    activation: Activation
    residual: bool = False  # adds the input, through a matrix of its own where the sizes differ


class Embedding(Strict):
    """Embedding tokens: what an item encoder makes, or a ranker takes."""

    tokens: Annotated[int, Field(gt=0)]  # k
    hidden_size: Annotated[int, Field(gt=0)]
    dtype: Literal["float16", "float32"]
    pooling: Pooling | None = None  # of a model that makes them
    normalize: bool | None = None
    further_poolings: list[Pooling] = Field(default_factory=list)  # joined after `pooling`'s states
    skip_tokens: Annotated[int, Field(ge=0)] = (
        0  # first tokens of an item that pooling leaves out: its prompt
    )
    dense: list[DenseLayer] = Field(default_factory=list)  # between pooling and normalization
    cut_from: Annotated[int, Field(gt=0)] | None = (
        None  # width before the cut to `hidden_size`, which is last
    )

    # Of two towers: `vocabulary`, a weight for each token of the tokenizer at the place of its id, most of them 0.
    form: Literal["dense", "vocabulary"] = "dense"

    @property
    def is_output(self) -> bool:
        """True of tokens that the model makes, and says how; False of those that it takes."""
        return self.pooling is not None

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """All poolings, whose states are joined in this order; none of tokens that a model takes."""
        return () if self.pooling is None else (self.pooling, *self.further_poolings)

    @property
    def making(self) -> list[str]:
        """Names of the fields that are set and say how tokens are made."""
        taken = Embedding(tokens=self.tokens, hidden_size=self.hidden_size, dtype=self.dtype)
        return [name for name in Embedding.model_fields if getattr(self, name) != getattr(taken, name)]


class ClassHead(Strict):
    """Head of a classifier: what its outputs mean, and what is pooled for it where the class has no head of its own."""

    exclusive: bool  # a text has one of the labels (softmax); otherwise each stands by itself (sigmoid)
    pooling: Pooling | None = None  # of the hidden states (`last-k`: the last); None: the class's own head
    further_poolings: list[Pooling] = Field(default_factory=list)  # joined after `pooling`'s states
    dense: list[DenseLayer] = Field(default_factory=list)  # from the pooled states to the logits

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """All poolings, whose states are joined in this order; none of a class's own head."""
        return () if self.pooling is None else (self.pooling, *self.further_poolings)
