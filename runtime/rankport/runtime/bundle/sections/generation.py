"""Writing of a generator, as the manifest states it."""

from typing import Annotated, Literal

from pydantic import Field

from rankport.runtime.bundle.strict import Strict

TokenId = Annotated[int, Field(ge=0)]


class Decoding(Strict):
    """Rules of an encoder-decoder's text beyond those of any: how it begins and ends, and the beams it is found by."""

    start_id: TokenId  # token that it begins behind
    first_id: TokenId | None = None  # token that it always begins with
    last_id: TokenId | None = None  # token in the place of the last that it may have
    min_tokens: Annotated[int, Field(ge=0)] = 0  # before one that ends it
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 0  # tokens of which no run comes twice; 0: any may
    beams: Annotated[int, Field(ge=1)] = 1
    length_penalty: float = 1.0  # power of a text's tokens by which its log-probability is divided
    early_stopping: bool | Literal["never"] = False  # as transformers has it


class Generation(Strict):
    """Ends of what a model writes, and how it is sampled where a request does not say."""

    stop_ids: list[TokenId]  # tokens that end it, and are no part of it
    temperature: Annotated[float, Field(ge=0)] = 0.0  # 0: the likeliest token, always
    top_k: Annotated[int, Field(ge=0)] = 0  # 0: all tokens
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0  # of the likeliest one's probability; 0: all tokens
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    min_tokens: Annotated[int, Field(ge=0)] = 0  # of a generator: before one that ends it
    decoding: Decoding | None = None  # of an encoder-decoder
