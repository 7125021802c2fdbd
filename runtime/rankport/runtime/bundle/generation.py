"""Writing of a generator, as the manifest states it."""

from typing import Annotated

from pydantic import Field

from rankport.runtime.bundle.strict import Strict


class Generation(Strict):
    """Ends of what a model writes, and how it is sampled where a request does not say."""

    stop_ids: list[Annotated[int, Field(ge=0)]]  # tokens that end it, and are no part of it
    temperature: Annotated[float, Field(ge=0)] = 0.0  # 0: the likeliest token, always
    top_k: Annotated[int, Field(ge=0)] = 0  # 0: all tokens
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
