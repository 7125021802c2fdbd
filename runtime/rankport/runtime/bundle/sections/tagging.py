"""The `tagging` section of a manifest: how the labels of tokens become spans."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rankport.runtime.bundle.strict import Strict

Scheme = Literal["BIO", "BIOES", "BILOU", "IO", "each"]
"""Spelling of labels: B-x, I-x and O; with E-x and S-x, or L-x and U-x; x and O; x alone, each word by itself."""


class Crf(Strict):
    """Transitions that labels are decoded by. What the tables in `file` are, docs/tagging.md says."""

    kind: Literal["linear-chain", "semi-markov"]
    file: str  # of the bundle: float32 tables behind each other
    max_segment: Annotated[int, Field(ge=1)] | None = None  # longest span in units; of semi-markov

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.kind == "semi-markov") != (self.max_segment is not None):
            raise ValueError(
                f"max_segment: a {self.kind} CRF {'lacks' if self.max_segment is None else 'has'} one"
            )
        return self


class Tagging(Strict):
    """Way from a row of logits a token to spans."""

    scheme: Scheme
    unit: Literal["word", "token"]  # what has a label: words, by their first token, or every token
    crf: Crf | None = None
