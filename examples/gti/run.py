"""Next movies by semantic IDs: ground, tune, export, search a trie by beams. `python -m examples.gti.run`

The new rows of one small language model start at their mean or grounded in the movies' texts; both are tuned alike on
histories. Writes build/gti: checkpoints, bundles, the trie and report.json.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.arguments import add_out, remove_made
from examples.gti.language_model import LanguageModelConfig, train
from examples.gti.movie_text import tokenizer_of, write_pairs
from examples.gti.movies import HISTORY, Case, Movies, ranked_by, recall_and_ndcg, unseen, vectors
from examples.gti.semantic_ids import SemanticIds, quantize
from examples.gti.tuning import TuningRecipe, tune
from rankport.exporters.vocabulary.grounding.ground import ground
from rankport.exporters.vocabulary.grounding.options import GroundingOptions
from rankport.sdk import EngineConfig, Generator, TokenTrie, export
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/gti")
WORDS, LEVELS, CODES = 1000, 3, 128
LANGUAGE_MODEL = LanguageModelConfig(hidden=96, steps=100)
STARTS: dict[Literal["mean", "grounded"], GroundingOptions] = {
    "mean": GroundingOptions(init="mean", epochs=0),
    "grounded": GroundingOptions(init="grounded", epochs=1, max_text_tokens=24),
}
HALF_LIFE_DAYS, OLDEST_DAYS = 5, 21
"""Movies watched long before the split teach less of those watched behind it."""

RECIPE = TuningRecipe()
BEAMS, FOUND, CASES = 32, 60, 600


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files and IDs that every start shares."""

    movies: Movies
    ids: SemanticIds
    trie: Path
    model: Path
    pairs: Path
    tokens: Path

    def token_ids(self, movies: Sequence[int]) -> NDArray[np.int64]:
        """Gives the tokens of movies in the vocabulary. [movies, LEVELS]"""
        rows: NDArray[np.int64] = WORDS + CODES * np.arange(LEVELS) + self.ids.codes[list(movies)]
        return rows

    def prompt(self, case: Case) -> str:
        """Writes a history as the model reads it."""
        return "".join("".join(self.ids.of(movie)) for movie in case.seen[-HISTORY:])


def main() -> None:
    """Runs every step and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    with steps(console) as say:
        say("movies")
        report = run(out, say)
    report |= {"seconds": time.perf_counter() - begun, "machine": describe_machine()}
    print_table(console, report)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"[dim]{out / 'report.json'}; {report['seconds']:.0f} s")


def run(out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains the language model, then tunes, exports and measures it from each start."""
    inputs, cross_entropy = prepare(out, say)
    movies = inputs.movies
    places = np.random.default_rng(0).choice(len(movies.cases), CASES, replace=False)
    cases = [movies.cases[place] for place in sorted(places)]
    by_popularity = [ranked_by(movies.recent, case, 10) for case in cases]
    rankings: dict[str, Any] = {"popularity of the week": recall_and_ndcg(by_popularity, cases)}
    starts = {}
    for start, options in STARTS.items():
        ranked, starts[start] = measure(inputs, start, options, cases, out / start, say)
        rankings |= ranked
    return {
        "movies": len(movies),
        "sequences": TokenTrie.open(inputs.trie).nodes[-1],
        "cases": len(cases),
        "language_model_nats": cross_entropy,
        "rankings": rankings,
        "starts": starts,
    }


def prepare(out: Path, say: Callable[[str], None]) -> tuple[Inputs, float]:
    """Makes IDs, trie, pairs and the language model."""
    remove_made(out, ("movies.trie", *STARTS))
    movies = Movies.load()
    ids = quantize(vectors(movies, 32, seed=0), LEVELS, CODES, seed=0)
    inputs = Inputs(movies, ids, out / "movies.trie", out / "lm", out / "pairs.jsonl", out / "tokens.txt")
    # Movies of one sequence are found in the order that they are given in.
    order = np.argsort(-movies.recent - movies.all_time / 1e6, kind="stable").tolist()
    names = [str(movie) for movie in order]
    TokenTrie.of(names, inputs.token_ids(order), WORDS + LEVELS * CODES).save(inputs.trie)
    write_pairs(movies.texts, ids, inputs.pairs, inputs.tokens)
    say("training the language model of movies")
    tokenizer = tokenizer_of(movies.texts, WORDS)
    return inputs, train(movies.texts, LANGUAGE_MODEL, inputs.model, tokenizer)


def measure(
    inputs: Inputs,
    start: str,
    options: GroundingOptions,
    cases: Sequence[Case],
    out: Path,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Grounds, tunes, exports and searches. Returns what the rankings are worth, and the rows before tuning."""
    grounded = ground(
        inputs.model,
        inputs.pairs,
        out / "rows",
        add=inputs.tokens,
        options=options,
        on_progress=lambda step: say(f"{start}: {step}"),
    )
    checkpoints = tune(
        out / "rows",
        [inputs.token_ids(history).tolist() for history in inputs.movies.histories],
        [[worth(age) for age in ages] for ages in inputs.movies.ages],
        out,
        RECIPE,
        lambda step, steps, loss: say(f"{start}: tuning {step} of {steps}, loss {loss:.2f}"),
    )
    rankings = {}
    for checkpoint, loss in checkpoints.items():
        found, search_s = exported_and_searched(
            checkpoint, inputs, cases, lambda step: say(f"{start}: {step}")
        )
        name = f"{start} start, {checkpoint.name.replace('-', ' ')}"
        rankings[name] = recall_and_ndcg(found, cases) | {"tuning_loss": loss, "search_s": search_s}
    (table,) = grounded.tables
    return rankings, {
        "held_out_log_likelihood": grounded.figures["held_out_log_likelihood"],
        "effective_rank_share": table.effective_rank_ratio,
        "mean_cosine": table.new_new.mean,
        "diagnostics": grounded.figures["diagnostics"],
    }


def exported_and_searched(
    checkpoint: Path, inputs: Inputs, cases: Sequence[Case], say: Callable[[str], None]
) -> tuple[list[list[int]], float]:
    """Makes the bundle and searches with it, as `searched` does."""
    bundle = export(
        checkpoint,
        checkpoint.with_suffix(".bundle"),
        kind="generator",
        max_prefix_tokens=1 + HISTORY * LEVELS,
        max_item_tokens=LEVELS,
        on_progress=lambda step: say(f"exporting: {step}"),
    )
    say("searching")
    return searched(bundle.path, inputs, cases)


def worth(age_days: float) -> float:
    """Weighs a movie that was watched so long before the split."""
    return float(0.5 ** (age_days / HALF_LIFE_DAYS)) if age_days < OLDEST_DAYS else 0.0


def searched(bundle: Path, inputs: Inputs, cases: Sequence[Case]) -> tuple[list[list[int]], float]:
    """Finds ten movies for each history that are not in it. Returns them, and the median seconds of a search."""
    trie, found, seconds = TokenTrie.open(inputs.trie), list[list[int]](), list[float]()
    with Generator.load(bundle, config=EngineConfig(threads=1)) as generator:
        for case in cases:
            begun = time.perf_counter()
            result = generator.search(inputs.prompt(case), trie, beams=BEAMS, top_k=FOUND)
            seconds.append(time.perf_counter() - begun)
            found.append(unseen([int(key) for key in result.keys], case, 10))
    return found, float(np.median(seconds))


def print_table(console: Console, report: dict[str, Any]) -> None:
    """Prints the new rows as tuning finds them, and a row for each ranking."""
    for name, start in report["starts"].items():
        likelihood = start["held_out_log_likelihood"]["text_to_tokens"]["after"]
        console.print(
            f"new rows, {name} start: effective rank {start['effective_rank_share']:.2f} of that of old ones, "
            f"mean cosine {start['mean_cosine']:.2f}, held-out IDs behind a text {likelihood:.2f} nats a token"
        )
    table = Table(title=f"The next of {report['movies']:,} movies, {report['cases']} histories")
    for heading in ("", "Recall@10", "NDCG@10", "ms a search"):
        table.add_column(heading, no_wrap=True, justify="right" if heading else "left")
    for name, row in report["rankings"].items():
        took = f"{1000 * row['search_s']:.1f}" if "search_s" in row else ""
        table.add_row(name, f"{row['recall_at_10']:.4f}", f"{row['ndcg_at_10']:.4f}", took)
    console.print(table)


if __name__ == "__main__":
    main()
