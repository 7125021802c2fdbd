"""The tokenizer of a checkpoint folder as its owner loads it: by transformers."""

from pathlib import Path
from typing import Any

import transformers

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.protos.errors import CheckpointError


def own_tokenizer(file: Path) -> Any:
    """Loads the tokenizer of a tokenizer.json as the config beside it says, or from the file alone without one.

    Runs no code of the folder. Raises CheckpointError where transformers cannot.
    """
    try:
        with quiet():
            if (file.parent / "tokenizer_config.json").is_file():
                return transformers.AutoTokenizer.from_pretrained(
                    file.parent, local_files_only=True, config=_unknown_config(file.parent)
                )
            return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))  # type: ignore[no-untyped-call]
    except Exception as error:  # the classes raise whatever they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{file.parent}: transformers cannot load this tokenizer: {reason:.200}: correct tokenizer_class in "
            "tokenizer_config.json, or remove that file if tokenizer.json alone is right"
        ) from error


def _unknown_config(folder: Path) -> transformers.PreTrainedConfig | None:
    """Makes the config of a folder whose model transformers does not know (Control LLM): what a tokenizer reads of it.

    None where transformers reads config.json itself. Of an unknown model it would read all fields, and break at some
    that only a model's class takes: rotary frequencies as Llama 3 scales them.
    """
    file = folder / "config.json"
    raw = read_json_object(file) if file.is_file() else {}
    model_type = raw.get("model_type")
    if model_type is None or model_type in transformers.CONFIG_MAPPING:
        return None
    return transformers.PreTrainedConfig(tokenizer_class=raw.get("tokenizer_class"))
