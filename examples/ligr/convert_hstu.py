"""An HSTU model in its published layout, `torch_module/model.0.pth`, to a checkpoint that `rankport export` takes.

    python -m examples.ligr.convert_hstu FOLDER --config FILE --names FILE --order heads --out CHECKPOINT

The config is that of a ranker of sets (docs/sets.md); the names are those stored of what is outside of the layers, by
ours: {"event_in.weight": "…", "tables.item.weight": "…"}. A table may be named after its dump in dynamicemb_module.
"""

import argparse
import json
from pathlib import Path

from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.hstu_layout import convert_hstu
from rankport.exporters.checkpoints.set_ranker.table_dumps import table_dumps


def main() -> None:
    """Converts one folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True)
    parser.add_argument("--order", choices=("kinds", "heads"), required=True, help="rows of _linear_uvqk")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    config = SetRankerConfig.read(json.loads(given.config.read_text(encoding="utf-8")), given.config)
    names = json.loads(given.names.read_text(encoding="utf-8"))
    scratch = given.out.absolute().parent
    scratch.mkdir(parents=True, exist_ok=True)
    convert_hstu(given.folder, config, names, given.order, scratch=scratch).save(given.out)
    if left_out := table_dumps(given.folder).left_out:
        print("left out, of training alone: " + ", ".join(sorted({path.name for path in left_out})))


if __name__ == "__main__":
    main()
