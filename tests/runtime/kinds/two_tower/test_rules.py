"""Rules of a two-tower's manifest: what contradicts is told by its field."""

from typing import Any

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import Manifest, Segment, WideFeature
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.kinds.two_tower.rules import RULES


def changed(manifest: Manifest, section: str, **fields: Any) -> Manifest:
    part = getattr(manifest, section)
    value = fields.pop("value", None) or part.model_copy(update=fields)
    return with_own_fingerprint(manifest.model_copy(update={section: value}))


def graphs(manifest: Manifest, place: int, **fields: Any) -> list[Any]:
    own = list(manifest.graphs)
    own[place] = own[place].model_copy(update=fields)
    return own


def renamed(manifest: Manifest, place: int, names: dict[str, str]) -> list[Any]:
    inputs = [
        tensor.model_copy(update={"name": names.get(tensor.name, tensor.name)})
        for tensor in manifest.graphs[place].inputs
    ]
    return graphs(manifest, place, inputs=inputs)


def test_a_bundle_holds(wide_bundle: Bundle) -> None:
    check_manifest(wide_bundle.manifest, RULES)
    assert {graph.role for graph in wide_bundle.manifest.graphs} == {
        "represent-query",
        "represent-item",
        "score",
    }


def test_what_contradicts_is_named(wide_bundle: Bundle) -> None:
    manifest = wide_bundle.manifest
    score = next(place for place, graph in enumerate(manifest.graphs) if graph.role == "score")
    few = manifest.wide[:2]
    joined = manifest.prompt.model_copy(
        update={
            "prefix": [Segment(text="q: "), Segment(field="query"), Segment(text="i")],
            "item": [Segment(item=True, joined=True)],
        }
    )
    cases = [
        (
            changed(manifest, "wide", value=few),
            "inputs: 'features' is float32 ['items', 3], must be float32 ['items', 2]",
        ),
        (changed(manifest, "wide", value=[*few, WideFeature(name="bm25")]), "wide: 'bm25' is named twice"),
        (changed(manifest, "embedding", hidden_size=13), "must be float32 ['items', 1, 13]"),
        (
            changed(manifest, "embedding", tokens=2),
            "gives float32 ['items', 1, 12], must be float32 ['items', 12, 12]",
        ),
        (changed(manifest, "embedding", pooling="mean"), "embedding.pooling: is the tower's own affair"),
        (
            changed(manifest, "score", kind="probability", transform="softmax"),
            "do not compete: sigmoid or none",
        ),
        (changed(manifest, "prompt", value=joined), "prompt.item[0].joined: query and item are read apart"),
        (changed(manifest, "graphs", value=graphs(manifest, score, role="represent")), "has the roles"),
        (
            changed(manifest, "graphs", value=renamed(manifest, score, {"query": "asked"})),
            "'asked' is none of query, items",
        ),
    ]
    for broken, message in cases:
        with pytest.raises(BundleError) as error:
            check_manifest(broken, RULES)
        assert message in str(error.value)
