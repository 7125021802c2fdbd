"""Packages: the version of rankport, and of those that are installed beside it."""

import sys

VERSION = "0.1.0"
"""Version of rankport; the build reads it here."""

# Packages that hold one module between them: one of them is installed.
_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
}


def installed_version(package: str) -> str | None:
    """Returns the version of an installed package; None where there is none.

    It is that of the package's metadata; without any (a copy on the path, say), what its module says if it is loaded.
    """
    if package == "rankport":
        return VERSION
    import importlib.metadata  # a tenth of what a client imports, which never asks

    for distribution in _DISTRIBUTIONS.get(package, (package,)):
        try:
            stated: str | None = importlib.metadata.version(distribution)
        except (
            importlib.metadata.PackageNotFoundError,
            KeyError,
        ):  # KeyError: metadata that state no version
            continue
        if stated:
            return stated
    said = getattr(sys.modules.get(package.replace("-", "_")), "__version__", None)
    return said if isinstance(said, str) else None
