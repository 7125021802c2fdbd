"""Form that requests to a ranker must fit, as far as its checkpoint's small files and the options tell."""

from pathlib import Path

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.decoders.item_tokens import bare_fingerprint
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.plan import ranker_prompt
from rankport.exporters.options.check_requests import RequestForm
from rankport.runtime.bundle.manifest import Embedding, Limits, ManifestDraft, ModelShape, Pairing
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.store.opening import open_store

_UNKNOWN = 2**31 - 1
"""A size that only the loaded model tells: nothing is refused for it here."""


def stated_form(checkpoint: Path, options: RankerOptions) -> RequestForm:
    """Reads prompt, tokenizer and encoder. Raises as the export itself would for each of them."""
    model = StatedModel.read(checkpoint, None if options.base is None else Path(options.base))
    prompt = ranker_prompt(model, options)
    embedding, pairing = _tokens(options)
    draft = ManifestDraft.model_construct(
        name=options.name or checkpoint.name,
        prompt=prompt.prompt,
        shape=ModelShape(hidden_size=_UNKNOWN, vocab_size=_UNKNOWN, layers=[]),
        labels=None,
        limits=Limits(
            max_prefix_tokens=_UNKNOWN if options.max_prefix_tokens is None else options.max_prefix_tokens,
            max_item_tokens=options.max_item_tokens or _UNKNOWN,
        ),
        embedding=embedding,
        pairing=pairing,
    )
    return RequestForm(draft, prompt.tokenizer)


def _tokens(options: RankerOptions) -> tuple[Embedding | None, Pairing | None]:
    """Reads form and origin of embedding tokens; a bare fingerprint's width is what the store says."""
    if options.item_encoder is None:
        return None, None
    fingerprint = bare_fingerprint(options.item_encoder)
    if fingerprint is None:
        manifest = open_bundle(options.item_encoder).manifest
        made = manifest.embedding
        if made is None:
            return None, None
        form = Embedding(tokens=made.tokens, hidden_size=made.hidden_size, dtype=made.dtype)
        return form, Pairing(encoder_fingerprint=manifest.fingerprint)
    width = 1
    if options.store is not None:
        with open_store(options.store, read_only=True) as store:
            held = store.fingerprints()
            width = held[fingerprint].hidden_size if fingerprint in held else 1
    form = Embedding(tokens=options.embedding_tokens or 1, hidden_size=width, dtype="float16")
    return form, Pairing(encoder_fingerprint=fingerprint)
