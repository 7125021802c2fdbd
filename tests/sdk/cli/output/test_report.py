"""The page of a proof: its figures are the manifest's, its words are about what was compared, and it stays small."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rankport.exporters.proof.evidence import ERROR_EDGES, MOST_POINTS, LengthScores, Series
from rankport.sdk.cli.output.bundle.manifest import print_manifest, print_run
from rankport.sdk.cli.output.report.page import page, write_html
from rankport.sdk.cli.output.report.plots import plots
from rankport.sdk.cli.output.report.report import ProofReport
from rankport.sdk.cli.output.run_facts import RunFacts
from support.proof_reports import AGREEMENT, EXACT, LOW_BITS, QUALITY, RUN, exact_report, low_bit_report


class Parsed(HTMLParser):
    """Tables by the heading before them, lists of facts, and figures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.facts: dict[str, str] = {}
        self.headings: list[str] = []
        self.outside: list[str] = []  # what the page would fetch
        self.plots = 0
        self._into: list[str] = [""]
        self._term = ""
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "wbr" or tag == "i" or (tag == "b" and self._tag not in ("", "div")):
            return
        self._tag = tag
        if tag == "h2":
            self.headings.append("")
        if tag == "table":
            self.tables[self.headings[-1]] = []
        if tag == "tr":
            self.tables[self.headings[-1]].append([])
        if tag in ("td", "th"):
            self.tables[self.headings[-1]][-1].append("")
        self.plots += tag == "figure"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("table", "h2", "dl"):
            self._tag = ""

    def handle_data(self, data: str) -> None:
        match self._tag:
            case "h2":
                self.headings[-1] += data
            case "td" | "th":
                self.tables[self.headings[-1]][-1][-1] += data
            case "dt":
                self._term = data
            case "dd":
                self.facts[self._term] = data.strip()


PARITY = "Parity of the graphs for onnx-cpu"


def test_figures_of_every_mode_stand_beside_their_limits() -> None:
    report = exact_report()
    head, *rows, limits = Parsed(page(report)).tables[PARITY]
    modes = report.first.parity.modes
    assert [row[0] for row in rows] == [mode.mode for mode in modes]
    for row, mode in zip(rows, modes, strict=True):
        cells = dict(zip(head, row, strict=True))
        assert float(cells["max error"]) == pytest.approx(mode.max_abs_error, rel=0.01)
        assert float(cells["mean error"]) == pytest.approx(mode.mean_abs_error, rel=0.01)
        assert float(cells["Kendall τ"]) == mode.kendall_tau
        assert (cells["requests"], cells["items"]) == ("12", "98")
        assert cells["of the limit"] == f"{mode.max_abs_error / 1e-4:.0%}"
    assert dict(zip(head, limits, strict=True)) | {"mode": "limit"} == {
        **dict.fromkeys(head, ""),
        "mode": "limit",
        "of the limit": "100%",
        "max error": "≤ 1.0e-04",
        "relative": "≤ 1.0e-02",
        "Kendall τ": "≥ 0.999",
    }
    assert "largest error 8.5e-06, relative error 2.8e-06 in 5 modes" in page(report)


def test_it_says_what_was_compared_with_what_when_where_and_how() -> None:
    facts = Parsed(page(exact_report())).facts
    assert facts["compared with"] == EXACT
    assert facts["on"] == "12 sample requests of 98 items in each mode, and 120 judged requests"
    assert (facts["date"], facts["machine"], facts["command"]) == (RUN.date, RUN.machine, RUN.command)
    assert facts["tools"] == "rankport 0.1.0, torch 2.13.0, transformers 5.23.0"
    assert facts["limits"] == "prefix 8, item 6 tokens"
    assert "'query :'" in facts["prompt"]
    assert "weights.bin" in facts["files"]
    assert {"labels", "fingerprint", "source"} <= set(facts)


def test_rankings_that_depend_on_the_batch_are_counted_on_the_page() -> None:
    said = "over passes of 1, 16, 256 items 0 of 1848 requests change among their first 10"
    assert said in page(exact_report())
    assert "batch independence" not in page(low_bit_report())


def test_agreement_with_the_owner_is_shown_with_its_limits() -> None:
    rows = Parsed(page(exact_report())).tables["Agreement with your own pipeline"]
    assert rows == [
        ["", "measured", "limit"],
        ["max abs error", f"{AGREEMENT.max_abs_error:.2e}", "≤ 1.0e-03"],
        ["mean abs error", f"{AGREEMENT.mean_abs_error:.2e}", "–"],
        ["Kendall tau, mean over requests", f"{AGREEMENT.kendall_tau:.6f}", "≥ 0.99"],
        ["Pearson r", f"{AGREEMENT.pearson:.6f}", "–"],
    ]


def test_ranking_quality_is_that_of_the_manifest() -> None:
    rows = Parsed(page(exact_report())).tables["Ranking quality on 120 judged requests"]
    assert rows[1:] == [
        ["source", f"{QUALITY.ndcg_at_1_source:.4f}", f"{QUALITY.ndcg_at_10_source:.4f}"],
        ["bundle", f"{QUALITY.ndcg_at_1_bundle:.4f}", f"{QUALITY.ndcg_at_10_bundle:.4f}"],
        ["difference", "+0.0056", "-0.0002"],
        ["largest loss allowed", "0.01", "0.01"],
    ]


def test_a_quantized_bundle_claims_equality_with_its_own_low_bits_alone() -> None:
    text = page(low_bit_report())
    parsed = Parsed(text)
    assert parsed.facts["compared with"] == LOW_BITS
    assert EXACT not in text
    assert "transformers fp32" not in text
    assert "NDCG@10 is 0.8176, of the fp32 original 0.8178" in text
    head, *_, noise, limits = parsed.tables[PARITY]
    assert (noise[0], limits[head.index("relative")], limits[head.index("max error")]) == (
        "noise",
        "≤ 1.0e-02",
        "",
    )
    drift = parsed.tables["Drift from the fp32 original"]
    assert [row[0] for row in drift[1:]] == ["random tokens", "judged"]
    assert drift[1][drift[0].index("max error")] == "3.10e-01"
    assert "int8" in parsed.facts["quantized"]
    assert parsed.facts["calibrated on"] == "256 requests, 40000 tokens"


def test_a_failed_proof_says_why_and_never_that_it_is_verified() -> None:
    text = page(exact_report(failures=("prefix_reuse/text: max abs error <3e-2>",)))
    assert "FAILED" in text
    assert "max abs error &lt;3e-2&gt;" in text
    assert "Verified" not in text


def test_it_fetches_nothing_and_stays_below_a_megabyte_of_any_proof(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "proof.html"
    write_html(file, exact_report(values=200_000))
    parsed = Parsed(file.read_text(encoding="utf-8"))
    assert parsed.outside == []
    assert parsed.plots == 5
    assert file.stat().st_size < 200_000


def test_json_carries_what_the_page_says() -> None:
    report = low_bit_report()
    said = report.as_json()
    assert said["compared_with"] == LOW_BITS
    assert said["passed"] is True
    assert said["run"] == {
        "command": RUN.command,
        "date": RUN.date,
        "machine": RUN.machine,
        "tools": RUN.tools,
    }
    manifest = report.manifest.model_dump(mode="json")
    for name in ("prompt", "labels", "limits", "files", "quantization", "drift", "quality", "parity"):
        assert said[name] == manifest[name]
    assert exact_report().as_json()["agreement"] == AGREEMENT.model_dump(mode="json")


def printed(report: ProofReport, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    print_manifest(console, report.manifest)
    print_run(console, report.run)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_has_limits_below_what_was_measured(width: int) -> None:
    text = printed(low_bit_report(), width)
    assert re.search(r"│ limit +│ +│ +│ ≤1\.0e-02 │ +≥0\.97 │", text)
    assert re.search(r"│ noise +│ +98 │ +2\.0e-03 │ +6\.7e-04 │", text)
    words = " ".join(text.split())
    assert "against its own int8 maths in torch 2.13.0" in words
    assert "12 sample requests of 98 items in each mode" in words
    assert f"measured {RUN.date} on {RUN.machine}" in words


def test_a_sample_of_values_keeps_the_worst_and_counts_all() -> None:
    source = np.zeros(50_000)
    bundle = np.full(50_000, 1e-7)
    bundle[31_415] = 0.5
    series = Series.of("logits", [source[:10], source[10:]], [bundle[:10], bundle[10:]])
    assert len(series.source) <= MOST_POINTS
    assert (series.errors.max(), series.total, sum(series.error_counts)) == (0.5, 50_000, 50_000)
    assert series.error_counts[int(np.searchsorted(ERROR_EDGES, 0.5)) - 1] == 1


def test_items_of_one_length_are_not_drawn_by_it() -> None:
    report = exact_report()
    evidence, parity = report.first.evidence, report.first.parity
    assert evidence.lengths is not None
    alike = LengthScores.of(np.ones(9, np.int64), np.arange(9.0))
    drawn = plots(replace(evidence, lengths=alike), parity)
    assert len(drawn) == len(plots(evidence, parity)) - 1


def test_lengths_are_kept_evenly() -> None:
    lengths = LengthScores.of(np.arange(6000), np.arange(6000.0))
    assert (len(lengths.tokens), lengths.tokens[0], lengths.tokens[-1], lengths.total) == (
        1500,
        0,
        5999,
        6000,
    )


def test_a_run_says_its_command_date_machine_and_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/rankport", "verify", "a b"])
    run = RunFacts.of_this()
    assert run.command == "rankport verify 'a b'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", run.date)
    assert "cores" in run.machine
    assert {"rankport", "torch", "transformers", "onnxruntime"} <= set(run.tools)
