"""The mode `pipeline`: plain texts, as the bundle and transformers' token-classification pipeline tag them."""

from typing import Literal

import transformers

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.kinds.tagger.proof.owners_reading import OwnersTokenizer
from rankport.exporters.kinds.tagger.proof.texts import OwnTagger, spans_parity
from rankport.exporters.kinds.texts.samples import sample_texts
from rankport.exporters.proof.emulation import Runnable
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.tagger.tagger import Tagger
from rankport.runtime.prompt.tokenizer import Tokenizer

MODE = "pipeline"
_FRAME = 2


def compare_with_pipeline(
    manifest: Manifest, place: Runnable, source: Checkpoint, tie: float
) -> ModeParity | None:
    """Measures plain texts against the pipeline; None where it has another notion of spans or words.

    Logits within `tie` of each other have no order. The pipeline knows BIO and labels without prefixes, no CRF, and
    words of a tokenizer that marks what goes on within one.
    """
    assert manifest.tokenizer is not None
    assert source.tokenizer_file is not None
    owner = OwnersTokenizer(source.tokenizer_file)
    strategy = _strategy(manifest, owner)
    if strategy is None:
        return None
    tokenizer = Tokenizer.from_file(place.bundle.file(manifest.tokenizer))
    texts = _plain_texts(tokenizer, owner, manifest.limits.max_item_tokens)
    if not texts:
        return None
    with quiet():
        pipeline = transformers.TokenClassificationPipeline(  # type: ignore[no-untyped-call]
            model=source.model, tokenizer=owner.inner, aggregation_strategy=strategy, device="cpu"
        )
        answers = [pipeline(text) for text in texts]
    with Tagger.load(place.bundle, config=place.config) as tagger:
        result = tagger.tag(texts)
    own_tagger = OwnTagger.of(source, manifest)
    equal, errors = [], [0.0]
    for text, answer in enumerate(answers):
        expected = [(int(own["start"]), int(own["end"]), own["entity_group"]) for own in answer]
        actual = result.spans(text)
        same = expected == [(span.start, span.end, span.label) for span in actual]
        reading = own_tagger.read(texts[text])
        if not same and own_tagger.is_tied(reading, own_tagger.unit_logits(reading), tie):
            continue
        equal.append(same)
        errors += [
            abs(float(own["score"]) - span.score) for own, span in zip(answer, actual, strict=False) if same
        ]
    return spans_parity(MODE, len(texts), equal, errors)


def _plain_texts(tokenizer: Tokenizer, owner: OwnersTokenizer, limit: int) -> list[str]:
    """Makes texts of words whose letters the pipeline counts as we do: no unknown tokens, one letter a character."""
    unknown = getattr(owner.inner.backend_tokenizer.model, "unk_token", None)
    drawn = " ".join(sample_texts(tokenizer, limit)).split()
    words = [word for word in drawn if word.isascii() and unknown not in owner.inner.tokenize(word)]
    texts = [
        " ".join(words[start : start + size]) for size in (1, 3, 8) for start in range(0, 5 * size, size)
    ]
    tokens = tokenizer.encode_ragged(texts).lengths
    room = limit - _FRAME
    return [text for text, own in zip(texts, tokens.tolist(), strict=True) if 0 < own <= room]


def _strategy(manifest: Manifest, owner: OwnersTokenizer) -> Literal["simple", "first"] | None:
    tagging = manifest.tagging
    assert tagging is not None
    if tagging.crf is not None or tagging.scheme not in ("BIO", "IO"):
        return None
    if tagging.unit == "token":
        return "simple"
    backend = owner.inner.backend_tokenizer
    return "first" if getattr(backend.model, "continuing_subword_prefix", None) else None
