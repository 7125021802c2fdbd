"""A graph file that is none; what a manifest says amiss of graphs, the planted faults of manifests show."""

from pathlib import Path

import pytest

from rankport.exporters.proof.stated_graphs import require_as_stated
from rankport.protos.errors import BundleError
from rankport.runtime.kinds.table import open_bundle
from support.bundle_samples import RANKER_FILES, ranker_draft, write_directory


def test_a_graph_that_is_none_is_told(tmp_path: Path) -> None:
    bundle = open_bundle(write_directory(tmp_path / "bundle", ranker_draft(), RANKER_FILES))
    with pytest.raises(BundleError, match=r"bundle: 'graphs/prefix\.onnx' is no ONNX graph: .*ModelProto"):
        require_as_stated(bundle)
