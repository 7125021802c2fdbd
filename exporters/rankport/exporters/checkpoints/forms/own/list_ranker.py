"""Checkpoints of list rankers: `ListRankerConfig`, of config.json or list_ranker.toml, or jina-reranker-v3's layout."""

import dataclasses
from typing import Any

from torch import nn

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.list_ranker import jina
from rankport.exporters.checkpoints.list_ranker.config import MODEL_TYPE, ListRankerConfig
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.checkpoints.list_ranker.recipe import FILE
from rankport.protos.errors import CheckpointError


def matches(folder: CheckpointFolder) -> bool:
    """Takes what says that it is a list ranker."""
    return folder.raw.get("model_type") == MODEL_TYPE or folder.architecture == jina.ARCHITECTURE


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the field or tensor at fault."""
    if head != "list":
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} ranks lists, read at markers: export it with --kind list-ranker"
        )
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"config.json: quantization {folder.quantization_method!r} of a list ranker is not supported: export the "
            "model in full precision, with --quantize if low bits are wanted"
        )
    published = folder.architecture == jina.ARCHITECTURE
    recipe = folder.path / FILE
    where = recipe if recipe.is_file() else folder.path / "config.json"
    form = _published(folder) if published else ListRankerConfig.read(folder.raw, where)
    model = ListRankerModel(form, _body(folder, form.body)).eval().requires_grad_(False)
    # A decoder that ranks lists by its owner's word leaves the head behind that makes tokens.
    filled = fill(model, folder, "none" if where == recipe else head)
    return LoadedModel(filled, notes=_notes(folder) if published else ())


def _published(folder: CheckpointFolder) -> ListRankerConfig:
    shapes = {name: folder.tensors.shape(name) for name in folder.tensors if name.startswith("projector.")}
    return jina.jina_config(folder.raw, shapes)


def _notes(folder: CheckpointFolder) -> tuple[str, ...]:
    if "auto_map" not in folder.raw:
        return ()
    return (
        f"config.json: auto_map names code for {jina.ARCHITECTURE}, which was not run: prompt, markers, projector and "
        "the joining of blocks are those of the published jina-reranker-v3",
    )


def _body(folder: CheckpointFolder, raw: dict[str, Any]) -> nn.Module:
    for field in ("auto_map", "quantization_config"):
        if field in raw:
            raise CheckpointError(
                f"{folder.path / 'config.json'}: body.{field} is not supported: a body is a class of transformers, in "
                "full precision"
            )
    return skeleton(parse_config(dataclasses.replace(folder, raw=raw)), "none")
