"""`optimum-cli export rankport`: `rankport export` as a command of optimum's.

Owns the way from optimum's command line to ours, and nothing of what it does. Imported by optimum alone.
"""

from argparse import REMAINDER, ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

PROGRAM = "optimum-cli export rankport"


class RankportExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # optimum has no types
    """Command that hands all its arguments on, `--help` too: options, their help and errors are those of ours."""

    COMMAND = CommandInfo(
        name="rankport",
        help="Export a ranker, item encoder or another kind of model to a proven bundle of ONNX graphs.",
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Takes whatever follows as arguments, so that argparse reads no option of ours."""
        parser.prefix_chars = "\0"  # no argument of a process has it
        parser.add_argument("arguments", nargs=REMAINDER)

    def run(self) -> None:
        """Runs the export, and exits as it does: 0 done, 2 what was asked is wrong, 1 anything else."""
        from rankport.sdk.cli.app import run_command

        run_command("export", self.args.arguments, PROGRAM)
