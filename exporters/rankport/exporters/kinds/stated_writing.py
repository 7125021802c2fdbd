"""Word of a checkpoint's folder on how text is to be written, as far as kinds that write share it.

Owns generation_config.json, or what stands for it: what is read, what changes no text, the refusal of the rest by name.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from transformers import GenerationConfig

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Manifest

FILE = "generation_config.json"
_CONFIG = "config.json"
SAMPLING = frozenset(
    {"eos_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"}
)
"""Fields that every kind that writes reads."""
_CHANGES_NO_TEXT = frozenset(
    {
        "_from_model_config",
        "assistant_confidence_threshold",  # this and its like: of assisted decoding, which drafts the same text
        "assistant_early_exit",
        "assistant_lookbehind",
        "bos_token_id",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "continuous_batching_config",
        "disable_compile",
        "is_assistant",
        "low_memory",
        "max_cache_len",
        "max_length",  # of a request, which the bundle's limits bound
        "max_matching_ngram_size",
        "max_new_tokens",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "pad_token_id",
        "prefill_chunk_size",
        "prompt_lookup_num_tokens",
        "return_dict_in_generate",
        "speculation_type",
        "target_lookbehind",
        "transformers_version",
        "use_cache",
        "use_mtp",
    }
)
_OF_DRAWS = frozenset({"epsilon_cutoff", "eta_cutoff", "top_h", "typical_p"})
"""Fields that are read where tokens are drawn alone."""
_OF_BEAMS = frozenset({"early_stopping", "length_penalty"})
"""Fields that change a text where beams find it alone."""
_NEUTRAL: Mapping[str, object] = MappingProxyType(
    {
        "num_beams": 1,
        "num_beam_groups": 1,
        "num_return_sequences": 1,
        "length_penalty": 1.0,
        "diversity_penalty": 0.0,
        "guidance_scale": 1.0,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "token_healing": False,
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
OWN_ENDS = "stop_ids"
"""Override of an export whose owner named the tokens that end a text."""


def own_ends(manifest: Manifest) -> list[int] | None:
    """Gives the tokens that end a text by its owner's word; None where the folder's counts."""
    assert manifest.generation is not None
    return manifest.generation.stop_ids if OWN_ENDS in manifest.source.overrides else None


def stated_fields(source: Checkpoint) -> tuple[str, Mapping[str, object]]:
    """Gives the fields that say how to write, and the file that has them.

    Without generation_config.json config.json is asked, for what stands in it, as transformers does.
    """
    for folder in source.folders:
        if (folder / FILE).is_file():
            return FILE, read_json_object(folder / FILE)
    known = GenerationConfig().to_dict()  # type: ignore[no-untyped-call]
    for folder in source.folders:
        if (folder / _CONFIG).is_file():
            raw = read_json_object(folder / _CONFIG)
            said = {name: value for name, value in raw.items() if name in known}
            return _CONFIG, {**said, **_of_old_files(raw)}
    return _CONFIG, {}


def _of_old_files(raw: Mapping[str, object]) -> Mapping[str, object]:
    """Reads BART's first files, which say so that a text begins with its first token, whatever else they say."""
    forced = raw.get("force_bos_token_to_be_generated")
    return {"forced_bos_token_id": raw.get("bos_token_id")} if forced else {}


def model_config(source: Checkpoint) -> Mapping[str, object]:
    """Gives the fields of a model's config, of its text part where it has several."""
    config: Mapping[str, object] = source.model.config.get_text_config().to_dict()  # type: ignore[union-attr, operator]
    return config


def refuse_others(fields: Mapping[str, object], read: Iterable[str], file: str) -> None:
    """Raises CheckpointError naming a field that says how to write in a way that bundles cannot."""
    for name, value in _others(fields, frozenset(read)):
        raise CheckpointError(
            f"{file}: {name} is {value!r}, a way of writing that bundles have not: remove it from the file"
        )


def drawn(fields: Mapping[str, object]) -> dict[str, object]:
    """Says how tokens are drawn, as fields of `Generation`; nothing where the likeliest is taken."""
    if not fields.get("do_sample"):
        return {}
    return {
        "temperature": value_or(fields, "temperature", 1.0),
        "top_p": value_or(fields, "top_p", 1.0),
        "min_p": value_or(fields, "min_p", 0.0),
        "top_k": value_or(fields, "top_k", _TOP_K_OF_TRANSFORMERS),
    }


def token_ids(value: object) -> list[int]:
    """Lists the tokens of a field that has one, several or none."""
    tokens = value if isinstance(value, list) else [value]
    return [token for token in tokens if isinstance(token, int)]


def value_or(fields: Mapping[str, object], name: str, default: float) -> object:
    """Gives a field, or the default where it is silent."""
    value = fields.get(name)
    return default if value is None else value


def _others(fields: Mapping[str, object], read: frozenset[str]) -> Iterator[tuple[str, object]]:
    """Yields the fields that would change a text and are not read."""
    defaults = GenerationConfig().to_dict()  # type: ignore[no-untyped-call]
    passed_over = read | _CHANGES_NO_TEXT
    if not fields.get("do_sample"):
        passed_over |= _OF_DRAWS
    if value_or(fields, "num_beams", 1) == 1:
        passed_over |= _OF_BEAMS
    for name, value in fields.items():
        if name in passed_over or value is None:
            continue
        if value not in (defaults.get(name), _NEUTRAL.get(name)):
            yield name, value
