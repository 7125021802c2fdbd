"""Flags of commands that make the tokens of a store: the encoder, its side, and how its tokens are kept."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rankport.protos.types import Side

BUNDLE = typer.Option(help="Bundle that makes the tokens: of an item encoder, or two towers.")
DeviceIdFlag = Annotated[int, typer.Option(min=0, help="Number of the GPU.")]
SideFlag = Annotated[
    Side | None, typer.Option(help="Side of two towers that reads the texts. [default: item]")
]
TokenDtypeFlag = Annotated[
    Literal["float16", "float32", "int8"] | None,
    typer.Option(help="Keep the tokens so. [default: as the encoder makes them]"),
]
BundleFlag = Annotated[Path, BUNDLE]
BundleOrServerFlag = Annotated[Path | None, BUNDLE]
