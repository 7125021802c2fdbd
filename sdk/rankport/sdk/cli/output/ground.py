"""Table of `rankport ground`."""

from rich.console import Console
from rich.table import Table

from rankport.exporters.vocabulary.grounding.ground import GroundReport
from rankport.protos.wording import counted


def print_report(console: Console, report: GroundReport) -> None:
    """Prints the likelihoods of held-out pairs before and after."""
    figures = report.figures
    likelihood = figures["held_out_log_likelihood"]
    table = Table(
        title=f"{figures['new_tokens']} rows grounded in {figures['epochs']} epochs, best after "
        f"{figures['best_epoch']}",
        title_justify="left",
    )
    for heading in ("held out, nats a token", "start", "grounded"):
        table.add_column(heading, justify="left" if heading.startswith("held") else "right")
    for name, label in (("text_to_tokens", "text → tokens"), ("tokens_to_text", "tokens → text")):
        table.add_row(label, f"{likelihood[name]['before']:.3f}", f"{likelihood[name]['after']:.3f}")
    console.print(table)
    for table_figures in report.tables:
        console.print(
            f"{table_figures.table}: effective rank {table_figures.new_spectrum.effective_rank:.1f} "
            f"({table_figures.effective_rank_ratio:.2f} of pretrained), mean cosine {table_figures.new_new.mean:.3f}",
            highlight=False,
            soft_wrap=True,
        )
    if figures["texts_cut"]:
        most = figures["identity"]["max_text_tokens"]
        texts = counted(figures["texts_cut"], "text")
        console.print(f"{texts} cut to {most} tokens: --max-text-tokens takes more", style="yellow")
    if figures["tokens_without_a_training_pair"]:
        lacking = counted(figures["tokens_without_a_training_pair"], "token")
        console.print(
            f"{lacking} had no pair to train on, and started at the mean",
            style="yellow",
        )
    console.print(f"checkpoint: {report.out}", soft_wrap=True)
