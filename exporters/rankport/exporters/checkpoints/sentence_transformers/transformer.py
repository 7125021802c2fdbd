"""`sentence_bert_config.json` and `tokenizer_config.json`: how a text becomes the transformer's input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from rankport.exporters.checkpoints.sentence_transformers.dense import TOKENS
from rankport.exporters.checkpoints.sentence_transformers.messages import ChatMessages, chat_messages
from rankport.exporters.checkpoints.sentence_transformers.settings import Settings
from rankport.protos.errors import CheckpointError

_CONFIG_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
LOWERCASE = (
    'cannot be exported: put a normalizer {"type": "Lowercase"} first in tokenizer.json, and say false here'
)
FILLS_LEFT = (
    "fills queries at their left, which no graph here does: say right if it was trained so, or fill none"
)
_CUT = "truncate_dim"
_UNLIMITED = 1e9  # what tokenizers write for "no limit" is far above
TokenAnswers = Literal["last_hidden_state", "logits"]
_TASKS: Mapping[TokenAnswers, str] = MappingProxyType(
    {"last_hidden_state": "feature-extraction", "logits": "fill-mask"}
)


@dataclass(frozen=True, slots=True)
class TransformerSettings:
    """Limit and casing of texts."""

    config_file: Path  # that says `max_seq_length`, or would
    max_seq_length: int | None  # tokens of a text, special ones included; None: only positions limit it
    keep: Literal["start", "end"]  # which end of a text survives a cut
    lower_case: bool  # lowercases before the tokenizer's own normalizer
    messages: ChatMessages | None = None  # by which its chat template reads a text


def transformer_settings(folder: Path) -> TransformerSettings:
    """Reads the settings beside a transformer. Raises CheckpointError for one that a graph or tokenizer would lack."""
    file = next(
        (folder / name for name in _CONFIG_FILES if (folder / name).is_file()), folder / _CONFIG_FILES[0]
    )
    settings = Settings.read(file)
    task = "only feature-extraction makes embeddings"
    settings.require("transformer_task", ["feature-extraction"], task)
    settings.require("module_output_name", ["token_embeddings"], "must be token_embeddings")
    _check_modalities(Settings.read(file))
    messages = chat_messages(settings)
    for name in ("query_length", "document_length", "query_expansion"):
        settings.require(name, (), "belongs to encoders of several vectors: leave it out of one that pools")
    settings.ignore("unpad_inputs")  # how passes are laid out
    limit, lower = settings.count("max_seq_length"), settings.flag("do_lower_case", False)
    _check_arguments(settings)
    own = _tokenizer_arguments(settings)
    settings.part("processing_kwargs").finish("only max_seq_length cuts texts: set that instead")
    settings.finish()
    stored = Settings.read(folder / "tokenizer_config.json")
    keep = _kept(stored.text("truncation_side"), folder / "tokenizer.json")
    if messages is not None and (keep == "end" or not messages.restores_suffix):
        raise CheckpointError(
            f"{file}: texts are messages of a chat template, and a cut would take its own tokens: set truncation_side "
            "to right in tokenizer_config.json, and restore_suffix to true"
        )
    return TransformerSettings(
        config_file=file,
        max_seq_length=limit or own or _finite(stored.value("model_max_length")),
        keep=keep,
        lower_case=lower,
        messages=messages,
    )


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Lengths of the texts of an encoder of several vectors, and how short queries are filled."""

    file: Path
    tokens: int | None  # of any text, special ones included
    query_tokens: int | None
    item_tokens: int | None
    expansion: Settings | None


def token_settings(
    folder: Path, answers: TokenAnswers = "last_hidden_state", *, may_say_nothing: bool = True
) -> TokenSettings:
    """Reads the settings beside a transformer whose answers for tokens are used as they are: states, or logits.

    Raises CheckpointError for one that a graph or tokenizer would lack, and for a task that is not said where it must.
    """
    file = _config_file(folder)
    settings = Settings.read(file)
    task = _TASKS[answers]
    if not may_say_nothing and Settings.read(file).value("transformer_task") is None:
        raise CheckpointError(
            f"{file} says no transformer_task, which is feature-extraction then: say {task}, if the model was trained "
            "so"
        )
    settings.require("transformer_task", [task], f"only {task} makes embeddings")
    settings.require("module_output_name", [TOKENS], f"must be {TOKENS}")
    _check_modalities(Settings.read(file), answers)
    if chat_messages(settings) is not None:
        raise CheckpointError(
            f"{file}: texts are messages of a chat template, which several vectors a text have not"
        )
    settings.ignore("unpad_inputs", "modality_config")
    if settings.flag("do_lower_case", False):
        raise settings.error("do_lower_case", True, LOWERCASE)
    _check_arguments(settings)
    filled = settings.optional_part("query_expansion")
    limit, own = settings.count("max_seq_length"), _tokenizer_arguments(settings, fills=filled is not None)
    settings.part("processing_kwargs").finish(
        "only lengths cut texts: set query_length and document_length instead"
    )
    query, item = settings.count("query_length"), settings.count("document_length")
    settings.finish("remove it if it changes no score")
    require_cut_behind(folder)
    return TokenSettings(file, limit or own or own_limit(folder), query, item, filled)


def own_limit(folder: Path) -> int | None:
    """Reads how many tokens a text may have by the tokenizer's word, within the positions; None: nobody says."""
    stored = Settings.read(folder / "tokenizer_config.json")
    return _within_positions(folder, _finite(stored.value("model_max_length")))


def require_cut_behind(folder: Path) -> None:
    """Raises CheckpointError for a tokenizer that would cut the mark of a text."""
    stated = Settings.read(folder / "tokenizer_config.json").text("truncation_side")
    if _kept(stated, folder / "tokenizer.json") == "end":
        raise CheckpointError(
            f"{folder}: cuts texts at their left, and with them the mark that says what a text is: set truncation_side "
            "to right in tokenizer_config.json"
        )


def _within_positions(folder: Path, limit: int | None) -> int | None:
    """Lowers the limit of a tokenizer to the positions that config.json states, as sentence-transformers does."""
    most = Settings.read(folder / "config.json").value("max_position_embeddings")
    return min(limit, most) if limit is not None and isinstance(most, int) and most > 0 else limit


def _kept(stated: str | None, tokenizer_file: Path) -> Literal["start", "end"]:
    """Says which end of a text survives a cut: by tokenizer_config.json, else as tokenizer.json itself would cut."""
    if stated is None:
        built_in = Settings.read(tokenizer_file).part("truncation").text("direction")
        stated = None if built_in is None else built_in.lower()
    return "end" if stated == "left" else "start"


def pair_limit(folder: Path) -> int | None:
    """Reads how many tokens a CrossEncoder takes of a pair; None: only positions limit it. Raises CheckpointError."""
    stated = pair_settings(folder).count("max_seq_length")
    return stated or _finite(Settings.read(folder / "tokenizer_config.json").value("model_max_length"))


def pair_settings(folder: Path) -> Settings:
    """Opens the settings of a CrossEncoder beside its transformer. Raises CheckpointError."""
    return Settings.read(_config_file(folder))


def check_pair_settings(folder: Path) -> None:
    """Checks what a CrossEncoder says beside its transformer, but limit and messages, which are read elsewhere.

    Raises CheckpointError for what changes a score and is in no bundle.
    """
    settings = pair_settings(folder)
    settings.ignore(
        "transformer_task", "module_output_name", "modality_config", "max_seq_length", "unpad_inputs"
    )
    if settings.flag("do_lower_case", False):
        raise settings.error(
            "do_lower_case",
            True,
            LOWERCASE,
        )
    _check_arguments(settings)
    _tokenizer_arguments(settings)
    processing = settings.part("processing_kwargs")
    processing.ignore("chat_template")
    processing.finish("only chat_template can be exported: set max_seq_length to cut texts")
    settings.finish("remove it if it changes no score")


def _check_arguments(settings: Settings) -> None:
    for name in ("model_args", "model_kwargs", "config_args", "config_kwargs"):
        arguments = settings.part(name)
        arguments.ignore("trust_remote_code", "attn_implementation", "torch_dtype", "dtype", "use_cache")
        if arguments.has(_CUT):
            where = "config_sentence_transformers.json, which cuts embeddings"
            raise arguments.error(
                _CUT, arguments.value(_CUT), f"is no argument of a model: write it into {where}"
            )
        arguments.finish("write it into config.json")


def _config_file(folder: Path) -> Path:
    files = [folder / name for name in _CONFIG_FILES]
    return next((file for file in files if file.is_file()), files[0])


def _check_modalities(settings: Settings, answers: TokenAnswers = "last_hidden_state") -> None:
    stated = settings.value("modality_config")
    if stated is None:
        return
    # Texts are messages where there are messages.
    form = (stated.get("message") or stated.get("text")) if isinstance(stated, dict) else None
    text = {"method": "forward", "method_output_name": answers}
    if isinstance(form, dict) and {name: form[name] for name in form if name != "format"} == text:
        return
    raise CheckpointError(
        f"{settings.where}: modality_config {stated!r}: only texts or messages read by forward into {answers} "
        "can be exported"
    )


def _tokenizer_arguments(settings: Settings, *, fills: bool = False) -> int | None:
    """Reads the limit of a tokenizer; where it `fills` texts that count, it must do so at their end."""
    limit = None
    for name in ("tokenizer_args", "processor_kwargs"):
        arguments = settings.part(name)
        if fills:
            arguments.require("padding_side", ["right"], FILLS_LEFT)
        arguments.ignore("trust_remote_code", "padding_side", "use_fast")
        limit = limit or arguments.count("model_max_length")
        arguments.finish("save the tokenizer with it, as tokenizer.json")
    return limit


def _finite(limit: object) -> int | None:
    return int(limit) if isinstance(limit, int | float) and 0 < limit < _UNLIMITED else None
