"""Files that may be replaced while a server runs."""

import os

Stamp = tuple[int, ...]


def stamp_of(*paths: str) -> Stamp:
    """Returns what differs once any of the files, links followed, is written or replaced. Raises `OSError`."""
    stats = [os.stat(path) for path in paths]
    return tuple(
        value for stat in stats for value in (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    )
