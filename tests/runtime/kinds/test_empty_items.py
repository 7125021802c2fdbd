"""Empty texts of classifiers, and empty items of cross-encoders: they fail, the others are answered as without them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tokenizers

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ItemStatus
from rankport.runtime.backends.contract import Started
from rankport.runtime.bundle.manifest import ClassHead, Labels, Limits, Manifest, Pair, Prompt, Score, Segment
from rankport.runtime.kinds.classifier.encoder import ClassEncoder
from rankport.runtime.kinds.classifier.text_classifier import TextClassifier
from rankport.runtime.kinds.cross_encoder.cross_encoder import CrossEncoder
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.text_engine import TextEngine
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.pairs import PairEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRuns
from support.bundle_samples import ENCODER_FILES, encoder_draft, manifest_of, tokenizer_json

LABELS = Labels(source="classification_head", names=["low", "high"], ids=[0, 1], positive=1)
SEPARATOR = Segment(special=["[SEP]"])
PAIR_PROMPT = Prompt(
    prefix=[Segment(special=["[CLS]"]), Segment(field="query"), SEPARATOR],
    item=[Segment(item=True), SEPARATOR],
)
OK, FAILED = ItemStatus.OK, ItemStatus.FAILED
TOLD = "is empty: it has no token of its own, or blanks alone; leave it out, or give it text"


class Sums:
    """`TextBackend`: the number and the sum of a text's token ids."""

    def start(self, texts: TokenRuns) -> Started[np.float32]:
        rows = np.array([[len(text.ids), text.ids.sum()] for text in texts], np.float32)
        return Started(lambda: rows, done=True)

    def close(self) -> None:
        """Does nothing."""


@pytest.fixture
def engines() -> Iterator[Replicas[TextEngine]]:
    engines = Replicas({0: TextEngine(Sums())})
    yield engines
    engines.close()


def manifest(**changes: Any) -> Manifest:
    return manifest_of(encoder_draft(embedding=None, labels=LABELS, **changes), ENCODER_FILES)


def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(tokenizer_json().decode()))


def paired() -> Manifest:
    score = Score(kind="logit", transform="none")
    limits = Limits(max_prefix_tokens=6, max_item_tokens=6)
    head = ClassHead(exclusive=True)
    return manifest(prompt=PAIR_PROMPT, pair=Pair(max_tokens=6), limits=limits, score=score, head=head)


def test_a_text_of_a_classifier(engines: Replicas[TextEngine]) -> None:
    single = manifest(head=ClassHead(exclusive=True))
    classifier = TextClassifier(single, ClassEncoder("c", PromptEncoder(single, tokenizer())), engines)
    result = classifier.submit_classify(["red", "", "green blue", " \n", []]).result()
    assert result.status == (OK, FAILED, OK, FAILED, FAILED)
    assert result.messages == ("", f"text {TOLD}", "", f"text {TOLD}", f"text {TOLD}")
    without = classifier.submit_classify(["red", "green blue"]).result()
    np.testing.assert_array_equal(result.probabilities[[0, 2]], without.probabilities)
    np.testing.assert_array_equal(result.logits[[0, 2]], without.logits)
    assert np.isnan(result.probabilities[[1, 3, 4]]).all()
    assert np.isnan(classifier.submit_classify([""]).result().logits).all()


def test_a_pair_of_a_classifier_of_which_either_text_is_empty(engines: Replicas[TextEngine]) -> None:
    classifier = TextClassifier(paired(), ClassEncoder("c", PairEncoder(paired(), tokenizer())), engines)
    result = classifier.submit_classify(
        [("red", "blue"), ("", "blue"), ("red", " "), ("green", "red")]
    ).result()
    assert result.status == (OK, FAILED, FAILED, OK)
    assert result.messages[1] == result.messages[2] == f"pair {TOLD}"
    without = classifier.submit_classify([("red", "blue"), ("green", "red")]).result()
    np.testing.assert_array_equal(result.logits[[0, 3]], without.logits)


def test_an_item_of_a_cross_encoder(engines: Replicas[TextEngine]) -> None:
    model = CrossEncoder(paired(), PairEncoder(paired(), tokenizer()), engines)
    result = model.score("red", ["blue", "", "green"])
    assert result.status == (OK, FAILED, OK)
    assert result.messages == ("", f"pair {TOLD}", "")
    np.testing.assert_array_equal(result.scores[[0, 2]], model.score("red", ["blue", "green"]).scores)
    assert model.score("", ["blue"]).status == (OK,)  # a prefix may be empty
    ranking = model.rank("red", ["", "blue"])
    assert [int(place) for place in ranking.indices] == [1, 0]


def test_where_there_is_no_status_the_request_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="item 1: is empty"):
        PromptEncoder(manifest(head=ClassHead(exclusive=True)), tokenizer()).encode_items(["red", ""])
