"""Word of a checkpoint's folder on how text is to be written: what ends it, and how tokens are drawn."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from transformers import GenerationConfig

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.stated import speaking_folders
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Generation

FILE = "generation_config.json"
_READ = frozenset({"eos_token_id", "do_sample", "temperature", "top_k", "top_p", "repetition_penalty"})
_CHANGES_NO_TEXT = frozenset(
    {
        "_from_model_config",
        "bos_token_id",
        "cache_implementation",
        "max_length",  # of a request, which the bundle's limits bound
        "max_new_tokens",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "pad_token_id",
        "return_dict_in_generate",
        "transformers_version",
        "use_cache",
    }
)
_NEUTRAL: Mapping[str, object] = MappingProxyType(
    {
        "num_beams": 1,
        "num_beam_groups": 1,
        "num_return_sequences": 1,
        "length_penalty": 1.0,
        "diversity_penalty": 0.0,
        "encoder_repetition_penalty": 1.0,
        "typical_p": 1.0,
        "epsilon_cutoff": 0.0,
        "eta_cutoff": 0.0,
        "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0,
        "min_length": 0,
        "min_new_tokens": 0,
        "remove_invalid_values": False,
        "renormalize_logits": False,
        "early_stopping": False,
    }
)
_TOP_K_OF_TRANSFORMERS = 50  # where sampling is asked for and no count is said


def stated_generation(source: Checkpoint, stop_ids: Sequence[int] | None) -> Generation:
    """Reads generation_config.json, if there is one, and the config. `stop_ids`: its owner's own word on them.

    Raises CheckpointError naming a field that says how to write in a way that bundles cannot.
    """
    fields = _fields(source.path)
    for name, value in _others(fields):
        raise CheckpointError(
            f"{FILE}: {name} is {value!r}, a way of writing that bundles have not: remove it from the file"
        )
    ends = _tokens(fields.get("eos_token_id")) or _tokens(_config(source).get("eos_token_id"))
    samples = bool(fields.get("do_sample"))
    top_k = fields.get("top_k", _TOP_K_OF_TRANSFORMERS)
    drawn = (
        {
            "temperature": _or(fields, "temperature", 1.0),
            "top_p": _or(fields, "top_p", 1.0),
            "top_k": top_k or 0,
        }
        if samples
        else {}
    )
    return Generation.model_validate(
        {
            "stop_ids": list(ends if stop_ids is None else stop_ids),
            "repetition_penalty": _or(fields, "repetition_penalty", 1.0),
            **drawn,
        }
    )


def _fields(checkpoint: Path) -> Mapping[str, object]:
    for folder in speaking_folders(checkpoint, None):
        if (folder / FILE).is_file():
            return read_json_object(folder / FILE)
    return {}


def _config(source: Checkpoint) -> Mapping[str, object]:
    config: Mapping[str, object] = source.model.config.get_text_config().to_dict()  # type: ignore[union-attr, operator]
    return config


def _others(fields: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yields the fields that would change a text and are not read."""
    defaults = GenerationConfig().to_dict()  # type: ignore[no-untyped-call]
    for name, value in fields.items():
        if name in _READ or name in _CHANGES_NO_TEXT or value is None:
            continue
        if value not in (defaults.get(name), _NEUTRAL.get(name)):
            yield name, value


def _tokens(value: object) -> list[int]:
    tokens = value if isinstance(value, list) else [value]
    return [token for token in tokens if isinstance(token, int)]


def _or(fields: Mapping[str, object], name: str, default: float) -> object:
    value = fields.get(name)
    return default if value is None else value
