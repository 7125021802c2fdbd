"""Classes of rankport's own that model types are computed by: one explicit table.

Configs are imported here, which makes them known to transformers; the model's code is when its class is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from rankport.exporters.checkpoints.bidirectional_llama import config as bidirectional_llama
from rankport.exporters.checkpoints.forms.folder import Head
from rankport.exporters.checkpoints.published.classes import (
    jina_bert_config,
    layerwise_gemma_config,
    lfm2_both_ways_config,
    minicpm_config,
    neobert_config,
    nomic_moe_config,
    nv_embed_config,
    qwen3_both_ways_config,
)
from rankport.protos.errors import CheckpointError

_PUBLISHED = "rankport.exporters.checkpoints.published.classes"


@dataclass(frozen=True, slots=True)
class OwnClasses:
    """A model's classes by the head that they end in."""

    model: str  # as people call it
    module: str
    names: Mapping[Head, str]

    def of_head(self, head: Head) -> type[Any]:
        """Imports the class with a head. Raises CheckpointError for a head that there is not."""
        if head not in self.names:
            raise CheckpointError(
                f"config.json: {self.model} has no {head}: its classes are {', '.join(self.names.values())}"
            )
        found: type[Any] = getattr(import_module(self.module), self.names[head])
        return found


OWN_CLASSES: Final[Mapping[str, OwnClasses]] = MappingProxyType(
    {
        bidirectional_llama.MODEL_TYPE: OwnClasses(
            f"model_type {bidirectional_llama.MODEL_TYPE!r}, which reads both ways,",
            "rankport.exporters.checkpoints.bidirectional_llama.model",
            {
                "none": "LlamaBidirectionalModel",
                "classification_head": "LlamaBidirectionalForSequenceClassification",
            },
        ),
        nomic_moe_config.MODEL_TYPE: OwnClasses(
            "nomic-embed-text-v2-moe", f"{_PUBLISHED}.nomic_moe_model", {"none": nomic_moe_config.CLASS}
        ),
        jina_bert_config.MODEL_TYPE: OwnClasses(
            "Jina's BERT",
            f"{_PUBLISHED}.jina_bert_model",
            {"none": jina_bert_config.BODY, "classification_head": jina_bert_config.CLASSIFIER},
        ),
        minicpm_config.MODEL_TYPE: OwnClasses(
            "a layerwise MiniCPM, a ranker,",
            f"{_PUBLISHED}.minicpm_model",
            {"none": "LayerwiseMiniCpmModel", "classification_head": minicpm_config.CLASS},
        ),
        layerwise_gemma_config.MODEL_TYPE: OwnClasses(
            "a layerwise Gemma 2, a ranker,",
            f"{_PUBLISHED}.layerwise_gemma_model",
            {"none": "LayerwiseGemmaModel", "classification_head": layerwise_gemma_config.CLASS},
        ),
        qwen3_both_ways_config.MODEL_TYPE: OwnClasses(
            "voyage-4-nano", f"{_PUBLISHED}.qwen3_both_ways_model", {"none": qwen3_both_ways_config.CLASS}
        ),
        nv_embed_config.MODEL_TYPE: OwnClasses(
            "NV-Embed", f"{_PUBLISHED}.nv_embed_model", {"none": nv_embed_config.CLASS}
        ),
        neobert_config.MODEL_TYPE: OwnClasses(
            "NeoBERT",
            f"{_PUBLISHED}.neobert_model",
            {"none": neobert_config.BODY, "classification_head": neobert_config.CLASSIFIER},
        ),
        lfm2_both_ways_config.MODEL_TYPE: OwnClasses(
            "LFM2.5's encoder", f"{_PUBLISHED}.lfm2_both_ways_model", {"none": lfm2_both_ways_config.CLASS}
        ),
    }
)
