"""Options that export and verify share: what is judged, how strictly, and where the proof is written."""

from pathlib import Path
from typing import Annotated

import typer

from rankport.exporters.options.tolerance import (
    EXACT_KENDALL_TAU,
    EXACT_NDCG_LOSS,
    FLOAT16_KENDALL_TAU,
    LOW_BIT_NDCG_LOSS,
    ROUNDED_KENDALL_TAU,
    ROUNDED_RELATIVE_ERROR,
    Tolerance,
)

DEFAULT = Tolerance()

Judged = Annotated[
    Path | None, typer.Option(help='JSONL of judged requests: {"prefix":…, "items":[…], "gains":[…]}.')
]
Store = Annotated[Path | None, typer.Option(help="Token store for keys in --judged and --calibration.")]
MaxAbsError = Annotated[
    float,
    typer.Option(
        help="Largest difference of a logit (or a token's value, plus its float16 rounding) from the source."
    ),
]
MinKendallTau = Annotated[
    float | None,
    typer.Option(
        help=f"Least rank agreement with the source. [default: {EXACT_KENDALL_TAU}; of float16 tokens "
        f"{FLOAT16_KENDALL_TAU}; of rounded activations {ROUNDED_KENDALL_TAU}, or less as the source's noise allows]",
        show_default=False,
    ),
]
MaxRelativeError = Annotated[
    float | None,
    typer.Option(
        help="Instead, where activations are rounded to low bits: |difference| / |source| over a mode's logits. "
        f"[default: {ROUNDED_RELATIVE_ERROR}, or twice the source's own noise where that is more]",
        show_default=False,
    ),
]
MaxNdcgLoss = Annotated[
    float | None,
    typer.Option(
        help="Largest difference of NDCG from the source; quantized at export: largest loss. "
        f"[default: {EXACT_NDCG_LOSS}, quantized at export {LOW_BIT_NDCG_LOSS}]",
        show_default=False,
    ),
]
Base = Annotated[
    Path | None,
    typer.Option(help="Base checkpoint of an adapter. [default: the folder that its config names]"),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures here too; - for stdout.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write the proof as a page here too.")]
