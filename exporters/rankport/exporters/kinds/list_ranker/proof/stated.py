"""Comparison of what a list ranker's bundle states with what its source says: prompt, markers, blocks and read-out."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.kinds.list_ranker.plan import score_of
from rankport.exporters.kinds.list_ranker.template import read_part
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.sections.lists import ListTemplate


def require_stated(manifest: Manifest, form: ListRankerConfig, source: Checkpoint) -> None:
    """Raises ParityError naming the field in which a bundle says otherwise than its source."""
    lists = manifest.lists
    assert lists is not None
    template = read_part(form.template)
    stated: dict[str, tuple[object, object]] = {
        f"lists.{name}": (getattr(lists, name), getattr(template, name)) for name in ListTemplate.model_fields
    }
    item = None if lists.item_marker is None else lists.item_marker.token
    stated["lists.item_marker.token"] = (item, form.item_marker)
    query = None if lists.query_marker is None else lists.query_marker.token
    stated["lists.query_marker.token"] = (query, form.query_marker)
    stated["lists.width"] = (lists.width, form.width(source.hidden_size))
    stated["lists.read_out"] = (lists.read_out, form.read_out)
    stated["lists.join"] = (lists.join, form.join)
    stated["score"] = (manifest.score, score_of(form))
    if "max_list_items" not in manifest.source.overrides:
        stated["lists.max_items"] = (lists.max_items, form.max_items)
    for field, (value, expected) in stated.items():
        if value != expected:
            raise ParityError(f"{field}: is {value}, the source says {expected}")
