"""The module of transformers that an error came out of."""

import traceback

from torch import nn


def raising_module(error: BaseException) -> nn.Module | None:
    """Finds the innermost module of transformers in whose code an error was raised; None if there is none."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    parts = [frame.f_locals.get("self") for frame in reversed(frames)]
    return next(
        (part for part in parts if isinstance(part, nn.Module) and "transformers" in type(part).__module__),
        None,
    )
