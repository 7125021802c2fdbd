"""The table of all planted faults, as docs/proof.md has it: `python -m mutations.table`, in tests/, writes it there."""

from pathlib import Path

from mutations.fault import Fault
from mutations.faults import (
    class_faults,
    encoder_faults,
    first_token_faults,
    folder_faults,
    generator_faults,
    import_faults,
    list_faults,
    low_bit_faults,
    manifest_faults,
    pair_faults,
    ranker_graphs,
    ranker_outputs,
    ranker_readings,
    seq2seq_faults,
    set_faults,
    tagger_faults,
    text_faults,
    tower_faults,
)

PAGE = Path(__file__).parents[2] / "docs" / "proof.md"
FAULTS: list[Fault] = [
    *ranker_graphs.FAULTS,
    *ranker_outputs.FAULTS,
    *ranker_readings.FAULTS,
    *encoder_faults.FAULTS,
    *pair_faults.FAULTS,
    *first_token_faults.FAULTS,
    *class_faults.FAULTS,
    *low_bit_faults.FAULTS,
    *text_faults.FAULTS,
    *folder_faults.FAULTS,
    *import_faults.FAULTS,
    *tower_faults.FAULTS,
    *tagger_faults.FAULTS,
    *list_faults.FAULTS,
    *set_faults.FAULTS,
    *generator_faults.FAULTS,
    *seq2seq_faults.FAULTS,
    *manifest_faults.FAULTS,
]
_HEADING = "| fault | what the bundle has | told by |"


def table() -> str:
    """Renders a row a fault."""
    rows = [f"| {fault.name} | {fault.what} | `{fault.told_by.strip(':')}` |" for fault in FAULTS]
    return "\n".join([_HEADING, "|---|---|---|", *rows, ""])


def main() -> None:
    """Writes the table in the place of the page's own."""
    text, _, _ = PAGE.read_text(encoding="utf-8").partition(_HEADING)
    PAGE.write_text(text + table(), encoding="utf-8")


if __name__ == "__main__":
    main()
