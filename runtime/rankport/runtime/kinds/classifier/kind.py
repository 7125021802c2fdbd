"""The classifier as the table of kinds lists it."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.classifier.rules import NAME, RULES
from rankport.runtime.kinds.classifier.text_classifier import TextClassifier
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> TextClassifier:
    return TextClassifier.load(bundle, config=config)


CLASSIFIER = Kind(NAME, RULES[NAME], _load)
