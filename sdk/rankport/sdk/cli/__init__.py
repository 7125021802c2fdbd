"""Command `rankport`: commands, their flags and their output. Heavy imports wait until a command runs."""

import sys


def main() -> None:
    """Runs the command. Exit codes: 0 done, 1 the work failed (one line on stderr says why), 2 wrong usage."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("rankport: the command line needs typer and rich: pip install 'rankport[runtime]'")
    try:
        from rankport.sdk.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
