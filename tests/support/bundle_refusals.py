"""Refusals of bundles: the message with which a directory is refused."""

from pathlib import Path

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.kinds.table import open_bundle


def refusal(root: Path) -> str:
    """Opens `root`, which is refused, and gives the message."""
    with pytest.raises(BundleError) as caught:
        open_bundle(root)
    assert str(root) in str(caught.value)
    return str(caught.value)
