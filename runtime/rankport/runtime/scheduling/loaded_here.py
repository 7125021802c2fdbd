"""Check that a model is used in the process that loaded it: a fork brings along none of its threads."""

from rankport.protos.processes.own_process import OwnProcess


def check_loaded_here(process: OwnProcess) -> None:
    """Raises `Unavailable` in a child forked from the process that loaded a model."""
    process.check("the model was loaded", "load it")
