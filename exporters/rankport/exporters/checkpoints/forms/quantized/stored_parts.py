"""Tensors of quantized layers, read strictly: of the shape and type that the config says, and of sound values."""

from math import gcd

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.fill import require_finite
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.protos.errors import CheckpointError


def read_tensor(
    folder: CheckpointFolder,
    name: str,
    shape: tuple[int, ...] | None = None,
    dtypes: tuple[torch.dtype, ...] = (),
) -> Tensor:
    """Reads a stored tensor. Raises CheckpointError if it is absent, of another shape or type, or not finite."""
    if name not in folder.tensors:
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} lacks tensor {name!r}, which its quantization_config needs: copy the "
            "checkpoint again"
        )
    stored = folder.tensors.shape(name)
    if shape is not None and stored != shape:
        raise CheckpointError(f"tensor {name!r} has shape {list(stored)}, the config expects {list(shape)}")
    dtype = folder.tensors.dtype(name)
    if dtypes and dtype not in dtypes:
        words = " or ".join(str(allowed).removeprefix("torch.") for allowed in dtypes)
        raise CheckpointError(
            f"tensor {name!r} is stored as {str(dtype).removeprefix('torch.')}, the config expects {words}"
        )
    tensor = folder.tensors.read(name)
    require_finite(name, tensor)
    return tensor


def read_scales(
    folder: CheckpointFolder,
    name: str,
    shape: tuple[int, ...] | None = None,
    *,
    signed: bool = False,
    powers: bool = False,
) -> Tensor:
    """Reads scales as fp32, of any float type wider than 8 bits: not all zero, and negative only where `signed`.

    `powers` of two may be stored as such too (e8m0).

    Raises CheckpointError.
    """
    floats = (torch.float32, torch.float16, torch.bfloat16, *((torch.float8_e8m0fnu,) if powers else ()))
    scales = read_tensor(folder, name, shape, floats).to(torch.float32)
    if not signed and bool((scales < 0).any()):
        raise CheckpointError(f"tensor {name!r} holds a scale of {scales.min():g}: scales are never negative")
    if not bool(scales.any()):
        raise CheckpointError(
            f"tensor {name!r} holds zeros only: scales must be above 0, copy the checkpoint again"
        )
    return scales


def read_one_scale(folder: CheckpointFolder, name: str) -> float:
    """Reads the one scale of a tensor, above 0. Raises CheckpointError."""
    scale = read_scales(folder, name)
    if scale.numel() != 1:
        raise CheckpointError(f"tensor {name!r} must hold one scale, it has shape {list(scale.shape)}")
    return scale.item()


def read_block_scales(
    folder: CheckpointFolder,
    name: str,
    shape: tuple[int, int],
    block: tuple[int, int],
    *,
    powers: bool = False,
) -> Tensor:
    """Reads scales of blocks of a matrix [out, in], and gives each row its own: fp32 [out, groups].

    Groups are as long as a block is wide, or shorter where the last one is cut. Raises CheckpointError.
    """
    (rows, columns), (tall, wide) = shape, block
    scales = read_scales(folder, name, (-(-rows // tall), -(-columns // wide)), powers=powers)
    of_group = torch.arange(0, columns, gcd(wide, columns)) // wide
    return scales[torch.arange(rows) // tall][:, of_group].contiguous()


def bias_of(
    folder: CheckpointFolder, stored: str, linear: nn.Linear
) -> tuple[Tensor | None, tuple[str, ...]]:
    """Makes the bias of a layer, its values left to `fill`, and what is taken.

    Some writers add a bias of zeros to layers that have none: it is dropped. Raises CheckpointError for other values.
    """
    name = f"{stored}.bias"
    if linear.bias is not None or name not in folder.tensors:
        return linear.bias, ()
    if bool(read_tensor(folder, name).any()):
        raise CheckpointError(
            f"the checkpoint holds tensor {name!r}, which its config has no place for: the model would run without it"
        )
    return None, (name,)


def require_full_groups(stored: str, linear: nn.Linear, group_size: int) -> int:
    """Counts the groups of a row. Raises CheckpointError if the last one is cut short."""
    groups, rest = divmod(linear.in_features, group_size)
    if rest:
        raise CheckpointError(
            f"layer {stored!r} has {linear.in_features} input channels, which group_size {group_size} does not divide: "
            f"quantize it with a group size that does, or leave it in full precision"
        )
    return groups


def checked_groups(name: str, index: Tensor, groups: int) -> Tensor | None:
    """Checks groups, which are None where they are contiguous. Raises CheckpointError naming what is out of range."""
    outside = index[(index < 0) | (index >= groups)]
    if len(outside):
        raise CheckpointError(
            f"tensor {name!r} holds group {outside[0].item()}, the scales have {groups} groups"
        )
    sizes = torch.bincount(index, minlength=groups)
    if bool((sizes != sizes[0]).any()):
        raise CheckpointError(
            f"tensor {name!r} gives its groups {sizes.min()} to {sizes.max()} channels: not equal"
        )
    contiguous = torch.arange(len(index)) // (len(index) // groups)
    return None if torch.equal(index, contiguous) else index
