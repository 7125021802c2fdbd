"""Adapters that trained rows of tables and nothing else, peft's TRAINABLE_TOKENS, told as LoRAs of no layer.

They store what a LoRA with `trainable_token_indices` does, under other names of fields and tensors.
"""

import re
from typing import Any

from rankport.protos.errors import CheckpointError

TYPE = "TRAINABLE_TOKENS"
_OWN = ("peft_type", "token_indices", "target_modules", "init_weights")
_NAME = re.compile(r"[\w.]+")
_ROWS, _ROWS_OF_LORA = ".trainable_tokens_delta", ".token_adapter.trainable_tokens_delta"


def as_lora(raw: dict[str, Any]) -> dict[str, Any]:
    """Says what adapter_config.json says as a LoRA's would; gives others as they are. Raises CheckpointError."""
    if raw.get("peft_type") != TYPE:
        return raw
    from peft.utils.constants import DUMMY_TARGET_MODULES  # late: only adapters need it, and it takes seconds

    rows, tables = raw.get("token_indices"), raw.get("target_modules")
    if not isinstance(rows, list) or not rows or not all(type(row) is int and row >= 0 for row in rows):
        raise CheckpointError(
            f"adapter_config.json: token_indices is {rows!r:.80}, must be a list of token ids"
        )
    names = [tables] if isinstance(tables, str) else tables  # of the embeddings peft stores the whole name
    if not isinstance(names, list) or not names or not all(_NAME.fullmatch(str(name)) for name in names):
        raise CheckpointError(
            f"adapter_config.json: target_modules of {TYPE} is {tables!r:.80}, must be names of tables"
        )
    trained = {name.rpartition(".")[2]: rows for name in names}
    return {key: value for key, value in raw.items() if key not in _OWN} | {
        "peft_type": "LORA",
        "target_modules": DUMMY_TARGET_MODULES,
        "trainable_token_indices": trained,
    }


def name_in_lora(stored: str) -> str:
    """Gives the name that a LoRA has for a tensor of such an adapter; others keep theirs."""
    if stored.endswith(_ROWS_OF_LORA) or not stored.endswith(_ROWS):
        return stored
    return stored.removesuffix(_ROWS) + _ROWS_OF_LORA
