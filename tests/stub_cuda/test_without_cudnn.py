"""A machine without cuDNN: what needs it says so as it is loaded, with what helps; what does not goes on as ever."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.without_gpu import stub
from support.gpu.kinds_on_cuda import KINDS, BundleOf

pytestmark = [pytest.mark.stub_cuda, pytest.mark.usefixtures("traces")]

CASES = [(kind, form) for kind in KINDS for form in ("fp32", "fp16")]
WITHOUT = (
    "ranker, joint, by rows",
    "ranker, softcap",
    "set-ranker, HSTU",
    "set-ranker, LiGR",
    "tagger, deberta",
)
"""Kinds whose attention is products: MultiHeadAttention asks for a handle of cuDNN, whatever it computes by."""
_CHILD = """
import json, sys
from rankport.protos.errors import RankportError
from rankport.runtime.kinds.table import open_bundle
from support.gpu.kinds_on_cuda import KINDS

for kind, form, path in json.load(sys.stdin):
    try:
        with KINDS[kind].asked(open_bundle(path)) as ask:
            loaded = True
            ask()
        told = ""
    except RankportError as error:
        told = f"{type(error).__name__}: {error}"
    print(json.dumps([kind, form, told]), flush=True)
"""


def test_kinds_that_need_cudnn_say_so_at_load_and_others_run(bundle_of: BundleOf) -> None:
    asked = [(kind, form, str(bundle_of(kind, form).path)) for kind, form in CASES]
    folders = ["tests", "."]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {folders}\n{_CHILD}"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=root,
        env=stub.environment(cudnn=False),
        check=True,
    )
    told = {(kind, form): words for kind, form, words in map(json.loads, done.stdout.splitlines())}
    assert told.keys() == set(CASES)
    assert {kind for (kind, _), words in told.items() if not words} == {*WITHOUT}
    for words in (words for (kind, _), words in told.items() if kind not in WITHOUT):
        assert "it finds no cuDNN, which this model needs: pip install 'nvidia-cudnn-cu13>=9'" in words
