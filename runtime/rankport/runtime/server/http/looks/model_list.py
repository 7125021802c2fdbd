"""List of models as OpenAI's clients read it, with our own descriptions in it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from rankport.protos.types import ModelDescription
from rankport.runtime.server.limits import RequestLimits
from rankport.runtime.server.models.models import ServedModels


def model_list(models: ServedModels, limits: RequestLimits) -> Mapping[str, object]:
    """Writes the names that requests may use, and the limits of a request.

    What scores comes first: NIM's clients take the first one.
    """
    named = {name: models.description(name) for name in models.alive()}
    versions = models.descriptions()
    several = Counter(model.name for model in versions)
    named |= {f"{model.name}@{model.version}": model for model in versions if several[model.name] > 1}
    data = [_entry(name, model) for name, model in named.items()]
    data.sort(key=lambda entry: not entry["score_kind"])
    return {"object": "list", "data": data, "limits": asdict(limits)}


def model_entry(models: ServedModels, name: str) -> Mapping[str, object]:
    """Writes what the list has of one name. Raises `NotFound` for a name that requests may not use."""
    return _entry(name, models.description(name))


def _entry(name: str, model: ModelDescription) -> dict[str, object]:
    return {
        "id": name,
        "root": f"{model.name}@{model.version}",
        "object": "model",
        "created": 0,
        "owned_by": "rankport",
        "max_model_len": model.max_prefix_tokens + model.max_item_tokens,
        **asdict(model),
    }
