"""An HSTU model in its published layout, `torch_module/model.0.pth`, to a checkpoint that `rankport export` takes.

    python -m examples.ligr.convert_hstu FOLDER --config FILE --names FILE --order heads --out CHECKPOINT

The config is that of a ranker of sets (docs/sets.md); the names are those stored of what is outside of the layers, by
ours: {"event_in.weight": "…", "tables.item.weight": "…"}. A table may be named after its dump in dynamicemb_module.
"""

import argparse
from pathlib import Path

from examples.arguments import add_out
from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.hstu_layout import convert_hstu
from rankport.exporters.checkpoints.set_ranker.table_dumps import table_dumps
from rankport.protos.errors import CheckpointError, RankportError


def main() -> None:
    """Converts one folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True)
    parser.add_argument("--order", choices=("kinds", "heads"), required=True, help="rows of _linear_uvqk")
    add_out(parser)
    given = parser.parse_args()
    for name in ("config", "names"):
        if not (file := getattr(given, name)).is_file():
            parser.error(f"argument --{name}: no file {file}")
    try:
        config = SetRankerConfig.read(read_json_object(given.config), given.config)
        names = _names(given.names)
        scratch = given.out.absolute().parent
        convert_hstu(given.folder, config, names, given.order, scratch=scratch).save(given.out)
    except (RankportError, OSError) as error:
        parser.error(str(error))
    if left_out := table_dumps(given.folder).left_out:
        print("left out, of training alone: " + ", ".join(sorted({path.name for path in left_out})))


def _names(file: Path) -> dict[str, str]:
    names = read_json_object(file)
    for ours, theirs in names.items():
        if not isinstance(theirs, str):
            raise CheckpointError(f"{file}: {ours!r} is named {theirs!r}: give a stored name as text")
    return names


if __name__ == "__main__":
    main()
