"""What an export derives where the user said nothing: prompt, limits, the form of embedding tokens."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tokenizers
from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.ranker.survey import Survey
from rankport.exporters.options.options import ExportOptions
from rankport.protos.errors import BundleError, CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Embedding, Limits, Pairing, Pooling, Prompt, Segment
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.prompt_file import load_prompt_file, validate_prompt
from rankport.runtime.prompt.tokenizer import Tokenizer

JsonT = TypeVar("JsonT", dict[str, Any], list[Any])

_DEFAULT_TOKENS = 1024
_DEFAULT_ENCODER_TOKENS = 512


@dataclass(frozen=True, slots=True)
class ResolvedPrompt:
    """The prompt of the bundle, the labels its file names, and the checkpoint's tokenizer."""

    prompt: Prompt
    labels: list[str] | None
    tokenizer: Tokenizer | None


def ranker_prompt(source: Checkpoint, options: ExportOptions) -> ResolvedPrompt:
    """The prompt file, or one field "prefix" and the bare item, framed as the tokenizer frames a text."""
    if options.prompt is not None:
        return _from_file(source, Path(options.prompt))
    before, after = _framing(source)
    return ResolvedPrompt(
        Prompt(prefix=[*before, Segment(field="prefix")], item=[Segment(item=True), *after]),
        None,
        _tokenizer(source),
    )


def encoder_prompt(source: Checkpoint, options: ExportOptions) -> ResolvedPrompt:
    """The prompt file's item part, or the bare item, framed as the tokenizer frames a text."""
    if options.prompt is not None:
        resolved = _from_file(source, Path(options.prompt))
        if resolved.prompt.prefix:
            raise InvalidRequest(f"{options.prompt}: an item encoder has no prefix: leave [[prefix]] out")
        return resolved
    before, after = _framing(source)
    return ResolvedPrompt(
        Prompt(prefix=[], item=[*before, Segment(item=True), *after]), None, _tokenizer(source)
    )


def _from_file(source: Checkpoint, path: Path) -> ResolvedPrompt:
    file = load_prompt_file(path)
    tokenizer = _tokenizer(source)
    validate_prompt(file.prompt, tokenizer)
    return ResolvedPrompt(file.prompt, file.labels, tokenizer)


def _tokenizer(source: Checkpoint) -> Tokenizer | None:
    if source.tokenizer_file is None:
        return None
    try:
        return Tokenizer.from_file(source.tokenizer_file)
    except BundleError as error:
        raise CheckpointError(str(error)) from error


def _framing(source: Checkpoint) -> tuple[list[Segment], list[Segment]]:
    """Special tokens that the tokenizer's own post-processor puts before and after a text."""
    if source.tokenizer_file is None:
        return [], []
    _tokenizer(source)
    inner = tokenizers.Tokenizer.from_file(str(source.tokenizer_file))
    # Some files have padding built in, which is no part of the frame.
    inner.no_padding()
    inner.no_truncation()
    bare, framed = inner.encode("a", add_special_tokens=False).tokens, inner.encode("a").tokens
    start = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), None)
    if start is None:
        raise CheckpointError(
            f"{source.tokenizer_file} frames a text in a way that no prompt can say: give --prompt"
        )
    before, after = framed[:start], framed[start + len(bare) :]
    return ([Segment(special=before)] if before else []), ([Segment(special=after)] if after else [])


def ranker_limits(facts: Survey, options: ExportOptions) -> Limits:
    """Limits within the checkpoint's windows and positions. CheckpointError if the ones asked for exceed them."""
    total = min(
        limit for limit in (facts.window, facts.max_positions, 2 * _DEFAULT_TOKENS) if limit is not None
    )
    prefix, item = options.max_prefix_tokens, options.max_item_tokens
    if prefix is None:
        prefix = min(_DEFAULT_TOKENS, max(total - item, 0) if item is not None else total // 2)
    if item is None:
        item = max(1, min(_DEFAULT_TOKENS, total - prefix))
    facts.check_length(prefix, item)
    return Limits(max_prefix_tokens=prefix, max_item_tokens=item)


def encoder_limits(source: Checkpoint, options: ExportOptions) -> Limits:
    """The item limit within the checkpoint's position encodings."""
    config = source.model.config.get_text_config()  # type: ignore[union-attr, operator]
    most = getattr(config, "max_position_embeddings", None)
    if most is not None:
        most -= _position_offset(source.model)
    item = options.max_item_tokens or min(_DEFAULT_ENCODER_TOKENS, most or _DEFAULT_ENCODER_TOKENS)
    if most is not None and item > most:
        raise CheckpointError(
            f"max item tokens {item} exceed the checkpoint's position encodings of {most} tokens: "
            "lower --max-item-tokens"
        )
    return Limits(max_prefix_tokens=0, max_item_tokens=item)


def _position_offset(model: nn.Module) -> int:
    """RoBERTa and its kin count positions from padding_idx + 1 on, so that many encodings are never used."""
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    padding = [
        part.padding_idx for part in tables if isinstance(part, nn.Embedding) and part.padding_idx is not None
    ]
    return max(padding, default=-1) + 1


def mixed_items(source: Checkpoint, options: ExportOptions) -> tuple[Embedding | None, Pairing | None]:
    """Form and origin of a mix ranker's embedding tokens, from the encoder's bundle or its bare fingerprint."""
    if options.kind != "mix-ranker":
        return None, None
    width = source.model.get_input_embeddings().embedding_dim  # type: ignore[operator]
    if width != source.hidden_size:
        raise CheckpointError(
            f"input embeddings are {width} wide, hidden states {source.hidden_size}: no mix ranker"
        )
    named = str(options.item_encoder)
    if len(named) == 64 and all(digit in "0123456789abcdef" for digit in named) and not Path(named).exists():
        if options.embedding_tokens is None:
            raise InvalidRequest(
                "--item-encoder is a bare fingerprint: say --embedding-tokens, the tokens of an item"
            )
        form = Embedding(tokens=options.embedding_tokens, hidden_size=source.hidden_size, dtype="float16")
        return form, Pairing(encoder_fingerprint=named)
    manifest = open_bundle(named).manifest
    if manifest.embedding is None or manifest.kind != "item-encoder":
        raise InvalidRequest(
            f"--item-encoder {named}: {manifest.name!r} is a {manifest.kind}, not an item encoder"
        )
    made = manifest.embedding
    if made.hidden_size != source.hidden_size:
        raise CheckpointError(
            f"the item encoder {manifest.name!r} makes tokens {made.hidden_size} wide and the ranker's input "
            f"embeddings are {source.hidden_size} wide: there is no projector between them, the widths must be equal"
        )
    if options.embedding_tokens not in (None, made.tokens):
        raise InvalidRequest(
            f"--embedding-tokens is {options.embedding_tokens}, the encoder makes {made.tokens}"
        )
    form = Embedding(tokens=made.tokens, hidden_size=made.hidden_size, dtype=made.dtype)
    return form, Pairing(encoder_fingerprint=manifest.fingerprint)


def encoder_output(source: Checkpoint, options: ExportOptions) -> Embedding:
    """Pooling and form of an encoder's tokens; a sentence-transformers folder brings its own defaults."""
    pooling = options.pooling or _stored_pooling(source.path)
    if pooling is None:
        raise InvalidRequest(
            "say how the hidden states become embedding tokens: --pooling last-k (with --tokens K), cls or mean; "
            "the checkpoint has no 1_Pooling/config.json that says it"
        )
    if options.tokens is not None and pooling != "last-k":
        raise InvalidRequest(f"--tokens goes with --pooling last-k; {pooling} makes one token")
    stored = _stored_normalize(source.path)
    normalize = options.normalize if options.normalize is not None else stored
    return Embedding(
        tokens=options.tokens or 1,
        hidden_size=source.hidden_size,
        dtype=options.output_dtype or "float16",
        pooling=pooling,
        normalize=normalize,
    )


_STORED_POOLING: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last-k",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last-k",
}


def _stored_pooling(path: Path) -> Pooling | None:
    file = path / "1_Pooling" / "config.json"
    if not file.is_file():
        return None
    config = _read_json(file, dict)
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    mode = config.get("pooling_mode")  # how newer releases write it
    chosen = [str(mode)] if mode is not None else chosen
    if len(chosen) == 1 and chosen[0] in _STORED_POOLING:
        return _STORED_POOLING[chosen[0]]
    raise CheckpointError(
        f"{file} asks for pooling {chosen}: only {', '.join(_STORED_POOLING)} alone can be exported"
    )


def _stored_normalize(path: Path) -> bool:
    file = path / "modules.json"
    if not file.is_file():
        return False
    modules = _read_json(file, list)
    types = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    unknown = [name for name in types if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise CheckpointError(
            f"{file} has modules {unknown}, which the encode graph lacks: it would be another model"
        )
    return "Normalize" in types


def _read_json(file: Path, kind: type[JsonT]) -> JsonT:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(content, kind):
        raise CheckpointError(f"{file} holds a JSON {type(content).__name__}, must be a {kind.__name__}")
    return content
