"""`rankport trie`: sequences that a generator may find."""

from pathlib import Path
from typing import Annotated

import typer

from rankport.protos.wording import counted


def trie() -> typer.Typer:
    """Makes the command group."""
    group = typer.Typer(
        help="Make tries of semantic IDs for a generator.", no_args_is_help=True, add_completion=False
    )
    group.callback()(_group)
    group.command()(build)
    return group


def _group() -> None:
    """Make tries of semantic IDs for a generator."""


def build(
    file: Annotated[
        Path,
        typer.Argument(
            help='Items, JSON lines: {"key": "movie-1", "tokens": ["<a_12>", "<b_7>"]}, or "ids".'
        ),
    ],
    bundle: Annotated[Path, typer.Option(help="Generator whose tokens they are.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
) -> None:
    """Build the trie of a catalogue, a folder that `serve --trie-root` and `generate --trie` take.

    Items of one sequence are found in the order of the lines. A line at fault is named: a token that the bundle has
    not, a key given twice, a sequence of another length.

    Exit codes: 0 built; 2 a line or an option is wrong; 1 anything else.
    """
    from rankport.runtime.bundle.bundle import Bundle
    from rankport.runtime.kinds.generator.generator import RULES
    from rankport.runtime.kinds.generator.tries.trie_file import trie_of_file
    from rankport.runtime.prompt.tokenizer import Tokenizer

    opened = Bundle.open(bundle, RULES)
    name = opened.manifest.tokenizer
    tokenizer = None if name is None else Tokenizer.from_file(opened.file(name))
    made = trie_of_file(
        file,
        lambda token: None if tokenizer is None else tokenizer.token_id(token),
        opened.manifest.shape.vocab_size,
    )
    made.save(out)
    typer.echo(
        f"{out}: {counted(made.count, 'item', ',')}, {counted(made.nodes[-1], 'sequence', ',')} of "
        f"{counted(made.levels, 'token')}"
    )
