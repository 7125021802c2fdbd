"""`rankport inspect`: what a person reads of a manifest."""

from collections.abc import Callable
from io import StringIO

from rich.console import Console

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Labels, Manifest, Score, WideFeature
from rankport.sdk.cli.output.bundle.manifest import print_manifest
from support.bundle_samples import RANKER_FILES, manifest_of, ranker_draft


def page_of(manifest: Manifest) -> str:
    text = StringIO()
    print_manifest(Console(file=text, width=200), manifest)
    return " ".join(text.getvalue().replace("│", " ").split())


def shown(**changes: object) -> str:
    return page_of(manifest_of(ranker_draft(**changes), RANKER_FILES))


def test_labels_and_score_are_told() -> None:
    page = shown()
    assert "labels yes, no (lm_head)" in page
    assert "score probability: softmax over yes, no: yes" in page
    assert "read at" not in page


def test_a_head_says_at_which_token_it_is_read() -> None:
    labels = Labels(source="classification_head", names=["fit"], ids=[0], pad_token=3)
    page = shown(labels=labels, score=Score(kind="logit", transform="none"))
    assert "labels fit (classification_head)" in page
    assert "score logit: logit of fit" in page
    assert "read at the last token that is not 3, the pad token, as transformers' head does" in page


def test_wide_features_are_told_with_what_a_missing_one_counts_as() -> None:
    wide = [
        WideFeature(name="bm25", scaling="mean-std", mean=4.0, std=2.0, nan=0.5),
        WideFeature(name="clicks"),
    ]
    page = shown(wide=wide)
    assert "wide features bm25 (mean-std; missing counts as 0.5), clicks (none; none may be missing)" in page


def test_states_of_recurrent_layers_are_counted(hybrid_bundle: Bundle) -> None:
    # Of 56 channels three tokens, of four heads of values a matrix of 8 by 6.
    page = page_of(hybrid_bundle.manifest)
    assert "1 KV layers, 2 recurrent states (360 numbers a prefix), hidden 32, vocabulary 101" in page


def test_a_ranker_of_sets_is_told_by_its_events_and_candidates(
    set_bundle: Callable[..., Bundle],
) -> None:
    page = page_of(set_bundle("ligr", "top").manifest)
    assert "1 KV layers, hidden 16 limits 32 events, 16 candidates heads click, dwell, like" in page
    assert "mask top 3" in page
    assert "table movie 50 x 6 int8, direct, unknown ids: zero" in page
    keyed = page_of(set_bundle("ligr", "top", keyed=True).manifest)
    assert "table movie 50 x 6 int8, 50 keys of uint64, unknown ids: zero" in keyed
    assert "vocabulary" not in page
    assert "prompt" not in page
