"""Calibration: what the inputs of a model's linear layers look like on real requests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class InputSums:
    """Sums of outer products of each layer's inputs over calibration tokens; layers of one input share theirs."""

    hessians: dict[str, Tensor] = field(default_factory=dict)  # layer name -> [in, in]
    requests: int = 0
    tokens: int = 0
    cut: int = 0  # prefixes and items whose text was cut to the limits
    passed_over: int = 0  # items of the file that were not run


def calibrate(model: nn.Module, run: Callable[[], None]) -> InputSums:
    """Watches the linear layers of `model` while `run` sends real requests through it."""
    calibration = InputSums()
    with torch.no_grad(), _watching(model, calibration):
        run()
    return calibration


@contextmanager
def _watching(model: nn.Module, calibration: InputSums) -> Iterator[None]:
    owners: dict[str, str] = {}
    latest: list[tuple[Tensor, str]] = []  # the input last seen, kept so that its identity stays its own

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            x = arguments[0]
            if name not in owners:
                owners[name] = latest[0][1] if latest and latest[0][0] is x else name
            if owners[name] == name:
                rows = x.reshape(-1, x.shape[-1])
                _accumulate(calibration.hessians, name, rows)
            else:
                calibration.hessians[name] = calibration.hessians[owners[name]]
            latest[:] = [(x, owners[name])]

        return hook

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_pre_hook(watch(name)) for name, module in layers]

    def count(module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        given = keywords.get("input_ids", keywords.get("inputs_embeds"))
        if isinstance(given, Tensor):
            calibration.tokens += given.shape[0] * given.shape[1]

    handles.append(model.register_forward_pre_hook(count, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _accumulate(hessians: dict[str, Tensor], name: str, rows: Tensor) -> None:
    if name not in hessians:
        hessians[name] = rows.new_zeros(rows.shape[1], rows.shape[1])
    hessians[name].addmm_(rows.T, rows)
