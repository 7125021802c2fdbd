"""Cores by the quota of control groups, as containers and services have them."""

from pathlib import Path

import pytest

from rankport.runtime.backends.ort.cores import quota_cores

GROUPS: dict[str, tuple[str, dict[str, str], int | None]] = {
    "a container, whose groups begin with its own": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "a service, by the least of those above": (
        "0::/system.slice/rankport.service\n",
        {
            "system.slice/rankport.service/cpu.max": "max 100000\n",
            "system.slice/cpu.max": "400000 100000\n",
            "cpu.max": "max 100000\n",
        },
        4,
    ),
    "less than a core": ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
    "no quota": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "a container of version 1, which is told its name on the machine": (
        "4:memory:/docker/f00\n3:cpu,cpuacct:/docker/f00\n",
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/docker/f00/cpu.max": "100000 100000\n",
        },
        3,
    ),
    "version 1 without a quota": (
        "3:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "files that say something else": ("0::/\n3:cpu\n", {"cpu.max": "much\n"}, None),
    "no groups": ("", {}, None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_quota_is_read_off_the_groups(case: str, tmp_path: Path) -> None:
    listed, files, cores = GROUPS[case]
    own = tmp_path / "own"
    own.write_text(listed)
    groups = tmp_path / "groups"
    for name, content in files.items():
        file = groups / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    assert quota_cores(groups, own) == cores
    assert quota_cores(groups, tmp_path / "absent") is None
