"""`rankport export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rankport.exporters.options.tolerance import Tolerance
from rankport.sdk.cli.proof_options import (
    DEFAULT,
    Base,
    HtmlFile,
    JsonFile,
    Judged,
    MaxAbsError,
    MaxNdcgLoss,
    MaxRelativeError,
    MinKendallTau,
    Store,
)

Words = Annotated[
    str | None,
    typer.Option(
        help="Tokens that answer, comma-separated, the positive one first: yes,no.", show_default=False
    ),
]


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face checkpoint folder (config.json, safetensors).")
    ],
    out: Annotated[
        Path, typer.Option(help="Bundle directory to make. Nothing is left there if anything fails.")
    ],
    kind: Annotated[
        Literal["ranker", "mix-ranker", "item-encoder"],
        typer.Option(
            metavar="KIND",
            help="ranker: text items. mix-ranker: items as embedding tokens or text. item-encoder: text to tokens.",
        ),
    ],
    labels: Words = None,
    label_ids: Annotated[
        str | None, typer.Option(help="The same as token ids: 9,17. For checkpoints without a tokenizer.")
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Prompt file (TOML): segments, limits, special tokens, labels.")
    ] = None,
    item_encoder: Annotated[
        str | None, typer.Option(help="Mix ranker: bundle or fingerprint of the encoder it was trained with.")
    ] = None,
    embedding_tokens: Annotated[
        int | None, typer.Option(help="Mix ranker: tokens an item, if --item-encoder is a fingerprint.")
    ] = None,
    pooling: Annotated[
        Literal["last-k", "cls", "mean"] | None,
        typer.Option(
            metavar="HOW", help="Item encoder: hidden states that become tokens: last-k, cls or mean."
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Item encoder: k of last-k pooling. [default: 1]")
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Item encoder: unit length for each token."),
    ] = None,
    output_dtype: Annotated[
        Literal["float16", "float32"] | None,
        typer.Option(metavar="DTYPE", help="Item encoder: float16 or float32 tokens. [default: float16]"),
    ] = None,
    max_prefix_tokens: Annotated[int | None, typer.Option(help="Longest prefix the bundle accepts.")] = None,
    max_item_tokens: Annotated[int | None, typer.Option(help="Longest item the bundle accepts.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Model name. [default: the output folder's name, without .bundle]")
    ] = None,
    version: Annotated[str, typer.Option(help="Model version.")] = "1",
    base: Base = None,
    quantize: Annotated[
        Literal["int8", "int4", "fp8"] | None,
        typer.Option(
            metavar="BITS",
            help="Low bits at export: int8 (fastest on a CPU), int4 (smallest) or fp8. --judged gates the ranking.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help='JSONL of real requests that rounding is fitted to: {"prefix":…, "items":[…]}.'),
    ] = None,
    graphs: Annotated[
        Literal["joint", "separate"] | None,
        typer.Option(
            metavar="HOW",
            help="Ranker: joint has one packed copy of the weights in memory, separate saves the last block's "
            "attention in a prefill. [default: joint if low-bit]",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET,...",
            help="What the graphs are made for: onnx-cpu and onnx-cuda, ONNX Runtime with its own operators; tensorrt, "
            "standard operators, low bits in Q/DQ form, for `rankport build`; tensorrt-rtx:sm89 or tensorrt-rtx "
            "(sm86, sm89 and sm120), the same and TensorRT plans for GPUs that need not be here, as `rankport build` "
            "makes them. Several share one bundle, joined by commas, as several architectures are. [default: onnx-cpu]",
            show_default=False,
        ),
    ] = None,
    attention: Annotated[
        Literal["shared", "fused"] | None,
        typer.Option(
            metavar="HOW",
            help="Of a graph for onnx-cuda: fused is one kernel, for which the prefix's KV is repeated in each row of "
            "items; shared is products that read it once. [default: fused; soft-capped models: shared]",
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8", "int4", "fp8"] | None,
        typer.Option(
            metavar="PRECISION",
            help="fp32, or on a GPU fp16 or bf16: weights, states and KV; norms, softmax, rotary tables and label "
            "logits stay exact. With --quantize, of what is not in low bits. int8, int4 or fp8: --quantize of that "
            "name, the rest in fp32. [default: fp32]",
        ),
    ] = None,
    judged: Judged = None,
    store: Store = None,
    max_abs_error: MaxAbsError = DEFAULT.max_abs_error,
    max_relative_error: MaxRelativeError = DEFAULT.max_relative_error,
    min_kendall_tau: MinKendallTau = DEFAULT.min_kendall_tau,
    max_ndcg_loss: MaxNdcgLoss = DEFAULT.max_ndcg_loss,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that is already at --out.")] = False,
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
) -> None:
    """Turn a checkpoint into a bundle that is proven equal to it, or leave nothing and exit 1.

    The bundle is measured against transformers in fp32 in every mode that will serve: full sequence, prefix reuse,
    prefix extension, one item alone, many prefixes and lengths in one pass.

    Example: `rankport export RANKER --kind ranker --labels yes,no --target onnx-cpu,tensorrt-rtx:sm86,sm89 --out DIR`
    """
    from rich.console import Console

    from rankport.exporters.options.options import ExportOptions
    from rankport.runtime.backends.tensorrt.status import check_plans
    from rankport.sdk.cli.html_report import write_html
    from rankport.sdk.cli.plan_tables import print_plans
    from rankport.sdk.cli.progress import steps
    from rankport.sdk.cli.tables import print_manifest, write_json

    # Checked before torch is imported: a slip on the command line should not cost seconds.
    options = ExportOptions(
        kind=kind,
        labels=_words(labels),
        label_ids=_ids(label_ids),
        prompt=prompt,
        item_encoder=item_encoder,
        embedding_tokens=embedding_tokens,
        pooling=pooling,
        tokens=tokens,
        normalize=normalize,
        output_dtype=output_dtype,
        max_prefix_tokens=max_prefix_tokens,
        max_item_tokens=max_item_tokens,
        name=name,
        version=version,
        base=base,
        quantize=quantize,
        calibration=calibration,
        graphs=graphs,
        target=target,
        precision=precision,
        attention=attention,
        judged=judged,
        store=store,
        tolerance=Tolerance(max_abs_error, max_relative_error, min_kendall_tau, max_ndcg_loss),
        overwrite=overwrite,
    )
    from rankport.exporters.export import run_export

    console = Console(stderr=True)
    with steps(console) as on_step:
        bundle = run_export(checkpoint, out, options, on_step)
    print_manifest(console, bundle.manifest)
    print_plans(console, check_plans(bundle))
    console.print(f"bundle: {bundle.path}", soft_wrap=True)
    write_json(json_file, bundle.manifest.model_dump(mode="json"))
    assert bundle.manifest.parity is not None
    write_html(html_file, bundle.manifest, bundle.manifest.parity, bundle.manifest.quality)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(","))


def _ids(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a comma-separated list of token ids", param_hint="--label-ids"
        ) from None
