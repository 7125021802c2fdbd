"""Warnings of transformers to users who run models themselves are no lines of an export."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.bundle import Bundle
from support.hybrids import hybrid


@contextmanager
def warned() -> Iterator[list[str]]:
    """Gives the warnings of transformers while open, those that it says once in a process among them."""
    logging.Logger.warning_once.cache_clear()  # type: ignore[attr-defined]
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger, chatter = logging.getLogger("transformers"), transformers.utils.logging
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity_warning()  # type: ignore[no-untyped-call]
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        chatter.set_verbosity(verbosity)


def test_a_model_that_warns_where_it_is_run_by_itself_is_exported_in_silence(tmp_path: Path) -> None:
    checkpoint = hybrid(tmp_path / "c", "lfm2")
    with warned() as by_itself, torch.no_grad():
        AutoModelForCausalLM.from_pretrained(checkpoint)(torch.tensor([[1, 2, 3]]))
    assert any("falling back to its reference PyTorch implementation" in message for message in by_itself)
    options = {"kind": "ranker", "label_ids": (5, 6), "target": "tensorrt"}
    with warned() as in_export, pytest.raises(CheckpointError, match="recurrent"):  # once the model was run
        export(checkpoint, tmp_path / "b", **options)
    assert in_export == []


def test_a_bundle_is_verified_in_silence(hybrid_checkpoint: Path, hybrid_bundle: Bundle) -> None:
    with warned() as messages:
        assert not verify(hybrid_bundle.path, hybrid_checkpoint).failures
    assert messages == []
