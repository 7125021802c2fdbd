"""Registration of `optimum-cli export rankport`. optimum reads this folder, which it calls a namespace, at its start.

No folder above this file has an `__init__.py`: it would hide optimum itself. Where optimum is not installed this folder
alone is found by its name: nothing of optimum can be imported then, and no version of it is stated.
"""

from optimum.commands.export.base import ExportCommand

from rankport.sdk.cli.optimum_command import RankportExportCommand

REGISTER_COMMANDS = [(RankportExportCommand, ExportCommand)]
