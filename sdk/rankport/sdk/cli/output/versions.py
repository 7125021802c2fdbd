"""Versions and aliases as `rankport models` writes them: a line each, or JSON."""

from dataclasses import asdict
from pathlib import Path

from rankport.protos.versions import ModelAlias, ModelVersion, ModelVersions
from rankport.protos.wording import counted
from rankport.sdk.cli.output.values import one_line
from rankport.sdk.cli.output.writing import write_json, writing


def write_versions(served: ModelVersions, as_json: bool) -> None:
    """Writes all to standard output."""
    with writing("standard output"):
        if as_json:
            write_json(Path("-"), asdict(served))
            return
        for line in (*map(line_of, served.versions), *map(alias_line, served.aliases)):
            print(line)


def line_of(version: ModelVersion, state: str = "") -> str:
    """Tells a version in a line, with a state that it had not yet when it was told, if one is given."""
    facts = [state or version.state.value]
    if version.kind:
        facts.append(
            f"{version.kind}, fingerprint {version.fingerprint[:12]}, {counted(version.requests, 'request')} now"
        )
    if version.path:
        facts.append(version.path)
    if version.reason:
        facts.append(version.reason)
    return one_line(f"{version.model.removesuffix('@')}: {': '.join(facts)}")


def alias_line(alias: ModelAlias) -> str:
    """Tells an alias in a line; one without targets stands for nothing any more."""
    if not alias.targets:
        return one_line(f"{alias.alias}: removed")
    total = sum(target.weight for target in alias.targets)
    shares = [f"{target.model} {target.weight / total:.4g}" for target in alias.targets]
    if len(shares) == 1:
        shares = [alias.targets[0].model]
    count = len(alias.earlier)
    before = f", before that {count} other{'s' if count > 1 else ''}" if count else ""
    return one_line(f"{alias.alias} -> {', '.join(shares)}{before}")
