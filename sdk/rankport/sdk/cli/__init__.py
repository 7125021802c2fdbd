"""Command `rankport`: commands, their flags and their output. Heavy imports wait until a command runs."""

import os
import sys


def main() -> None:
    """Runs the command. Exit codes: 0 done, 2 what was asked is wrong, 1 anything else; one line on stderr says why."""
    try:
        _run()
    except KeyboardInterrupt:  # while it is imported too
        sys.exit(130)


def _run() -> None:
    # What gRPC notes of connections would stand among the lines of a command, and of a server's log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from rankport.protos.errors import MissingExtra
    from rankport.protos.installed.extras import extras_named
    from rankport.protos.installed.packages import VERSION

    if sys.argv[1:] == ["--version"]:  # where the extra of the command line is not installed too
        _print_version(f"rankport {VERSION}\n")
        return
    try:
        with extras_named("the command line"):
            from rankport.sdk.cli.app import run
    except MissingExtra as error:
        sys.exit(f"rankport: MissingExtra: {error}")
    run()


def _print_version(line: str) -> None:
    from rankport.protos.reasons import reason_with_file
    from rankport.sdk.cli.process import flush_output, open_streams

    open_streams()
    try:
        flush_output(line)
    except OSError as error:
        sys.exit(f"rankport: OSError: {reason_with_file(error)}")
