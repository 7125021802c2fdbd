"""The text part of a model that sees or hears too: towers and projectors that no text reaches are left out.

What is left is the checkpoint's own class, whose forward of a text is the one that it was.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import torch
from torch import nn
from transformers import PreTrainedModel

from rankport.protos.wording import counted

_TOWER = re.compile(
    r"(?P<tower>(?:model\.)?(?:vision_(?:model|tower)|visual|audio_(?:model|tower)|multi_modal_projector))\..*"
)


def tower_of(tensor: str) -> str | None:
    """Names the tower that a stored tensor is of, by its name; None if it is of none."""
    match = _TOWER.fullmatch(tensor)
    return match["tower"] if match else None


def keep_text_part(model: nn.Module) -> tuple[str, ...]:
    """Drops the parts of a model of several modalities that do not run on a text; says which, in words.

    A model that cannot run without them stays whole.
    """
    if not isinstance(model, PreTrainedModel) or not model.config.sub_configs:
        return ()
    with _running(model) as ran, suppress(Exception):  # what cannot run is refused where it is surveyed
        _read_text(model)
    if not ran:
        return ()
    dropped: dict[str, tuple[nn.Module, str, nn.Module]] = {}  # path -> owner, name, part
    for path, owner, name, part in list(_parts(model)):
        inside = any(path.startswith(f"{tower}.") for tower in dropped)
        if not inside and ran.isdisjoint(part.modules()):
            dropped[path] = owner, name, part
            setattr(owner, name, None)
    try:
        _read_text(model)
    except Exception:  # the model's code asks for a part that it does not run
        for owner, name, part in dropped.values():
            setattr(owner, name, part)
        return ()
    return left_out({path: len(part.state_dict()) for path, (_, _, part) in dropped.items()})


def left_out(towers: Mapping[str, int]) -> tuple[str, ...]:
    """Says which towers were left out, each with its number of tensors."""
    return tuple(
        f"left out: {name}, {counted(count, 'tensor')}, which no text reaches"
        for name, count in towers.items()
    )


def _parts(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Lists what may be a tower or its projector, as (path, owner, name, part): never a part of the decoder's layers.

    Beside the parts of model and body these are what has a config of its own that is not the text's, wherever it lies.
    """
    config = model.config
    others = {id(getattr(config, name, None)) for name in config.sub_configs} - {id(config.get_text_config())}
    for path, owner in model.named_modules():
        for name, part in owner.named_children():
            if owner in (model, model.base_model) or id(getattr(part, "config", None)) in others:
                yield f"{path}.{name}".lstrip("."), owner, name, part


def _read_text(model: PreTrainedModel) -> None:
    ids = torch.tensor([[1, 2, 3]]) % model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)


@contextmanager
def _running(model: nn.Module) -> Iterator[set[nn.Module]]:
    """Collects the modules that run while open."""
    ran: set[nn.Module] = set()

    def note(module: nn.Module, _: object) -> None:
        ran.add(module)

    hooks = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()
