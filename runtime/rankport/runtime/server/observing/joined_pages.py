"""Pages of metrics of several processes as one, in Prometheus' text format: each series says whose it is."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# All fronts tell the same of their engines, which they share.
_OF_ENGINES = re.compile(
    r"rankport_(pass(es|_.*)|failed_passes|device_.*|queue_.*|active_requests|silent_seconds|compute_seconds|"
    r"recording_seconds|id_rows.*|prefix_.*|model_info)"
)
_KEPT_ON_DEVICES = re.compile(r'rankport_store_kept_keys\{.*memory="device".*')
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<labels>\{)?(?P<rest>.*)")


@dataclass(slots=True)
class _Family:
    head: list[str] = field(default_factory=list)  # its help and type
    samples: list[str] = field(default_factory=list)


def restarts_page(restarts: Mapping[str, int]) -> bytes:
    """Writes how often a process was started again, by why."""
    name = "rankport_restarts_total"
    samples = "".join(f'{name}{{reason="{reason}"}} {count}\n' for reason, count in restarts.items())
    return f"# HELP {name} Starts of a process anew, by why.\n# TYPE {name} counter\n{samples}".encode()


def joined(pages: Mapping[str, bytes], own: str) -> bytes:
    """Joins pages by the names of their processes: a label `process`. What fronts share is as `own` has it."""
    families: dict[str, _Family] = {}
    for process, page in pages.items():
        for name, line in _lines(page.decode()):
            shared = bool(_OF_ENGINES.fullmatch(name) or _KEPT_ON_DEVICES.fullmatch(line))
            if shared and process != own:
                continue
            family = families.setdefault(name, _Family())
            if not line.startswith("#"):
                family.samples.append(line if shared else _labelled(line, process))
            elif line not in family.head:
                family.head.append(line)
    return "".join(
        f"{line}\n" for family in families.values() for line in (*family.head, *family.samples)
    ).encode()


def _lines(page: str) -> Iterator[tuple[str, str]]:
    """Gives the lines, each with the name of its family without what counters end in."""
    name = ""
    for line in filter(None, page.split("\n")):
        if line.startswith("#"):
            name = line.split(" ", 3)[2]
        yield name.removesuffix("_total"), line


def _labelled(line: str, process: str) -> str:
    sample = _SAMPLE.fullmatch(line)
    assert sample is not None, "samples have a name"
    label = f'process="{process}"'
    if sample["labels"] is None:
        return f"{sample['name']}{{{label}}}{sample['rest']}"
    return f"{sample['name']}{{{label},{sample['rest']}"
