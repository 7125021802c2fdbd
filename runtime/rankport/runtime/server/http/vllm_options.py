"""Options that vLLM's rerank and score have in common, and its cut of long texts."""

from typing import Literal

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Truncation
from rankport.runtime.server.http.call import Call
from rankport.runtime.server.http.forms import Form, refuse


class VllmOptions(Form):
    """Options that vLLM's rerank and score share."""

    model: str = ""
    truncate_prompt_tokens: int | None = None  # -1: to what the model takes
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None  # True: probabilities; False: logits
    user: str | None = None  # names the end user for logs, and has no effect
    request_id: str | None = None
    priority: int | None = None

    def truncation(self, call: Call) -> Truncation:
        """Tells what becomes of long texts. Raises `InvalidRequest` for options that cannot be honoured."""
        refuse("priority", self.priority or None, "leave it out, header x-priority has two classes")
        refuse(
            "truncation_side", self.truncation_side, "leave it out, the model's bundle says which end is kept"
        )
        return call.truncation(cuts(self.truncate_prompt_tokens))


def cuts(truncate_prompt_tokens: int | None) -> bool | None:
    """Says whether long texts are cut; None: as the server does. Raises `InvalidRequest` for another length than -1."""
    if truncate_prompt_tokens is None:
        return None
    if truncate_prompt_tokens != -1:
        raise InvalidRequest(
            f"truncate_prompt_tokens is {truncate_prompt_tokens}: give -1, which cuts to what the model takes, or "
            "leave it out"
        )
    return True
