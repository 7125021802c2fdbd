"""Flag of a request's class of priority, for every command that asks a model."""

from typing import Annotated

import typer

from rankport.protos.priorities import Priority

PriorityFlag = Annotated[
    Priority, typer.Option(help="Class of the request at --server: background gives way to interactive.")
]
