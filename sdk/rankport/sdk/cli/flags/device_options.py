"""Numbers of GPUs, as several commands are told them."""

from rankport.protos.errors import InvalidRequest


def gpu_numbers(text: str) -> tuple[int, ...]:
    """Reads `0,2` as numbers, `all` as those that this machine has. Raises `InvalidRequest` for anything else."""
    if text.strip() == "all":
        from rankport.runtime.backends.devices.cuda.gpus import list_gpus

        numbers = tuple(range(len(list_gpus())))
        if not numbers:
            raise InvalidRequest("'all': this machine shows no GPU (rankport doctor says more)")
        return numbers
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise InvalidRequest(f"{text!r}: give numbers of GPUs, for example 0,1, or all")
    return tuple(int(word) for word in words)
