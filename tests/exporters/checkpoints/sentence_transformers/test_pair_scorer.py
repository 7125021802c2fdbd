"""CrossEncoders whose pooled states end in scores (ettin-reranker): logits are those of sentence-transformers."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.labels.score import resolve_score
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, RankportError
from rankport.runtime.bundle.manifest import Labels
from rankport.runtime.kinds.scorer import Scorer
from support import sentence_folders as folders
from support.effort import full_effort

PAIRS = [("a b", "cook"), ("nurse", "pilot a b c d"), ("query", "a")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.bert(tmp_path_factory.mktemp("bert") / "b")


@pytest.fixture(scope="module")
def scorer(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.pair_scorer(bert, tmp_path_factory.mktemp("scorer") / "s")


def modern(folder: Path) -> Path:
    """Makes a body without token types, of ettin's family."""
    folders.bert(folder)
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    config = transformers.ModernBertConfig(
        vocab_size=19,
        hidden_size=folders.WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.3,
        **special,
    )
    transformers.ModernBertModel(config).save_pretrained(folder)
    return folder


def predicted(folder: Path, activation: Any = None) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import CrossEncoder

        library = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        rows: np.ndarray = library.predict(PAIRS, activation_fn=activation, show_progress_bar=False)
    return rows


def logits(folder: Path, head: Any = "own") -> np.ndarray:
    """Logits of pairs, padded beside each other."""
    model = load_checkpoint(folder, head=head).model
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = dict(tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt"))
    if not getattr(model.config, "type_vocab_size", None):
        texts.pop("token_type_ids", None)
    with torch.no_grad():
        answered: np.ndarray = model(**texts).logits.numpy()
    return answered


@pytest.mark.parametrize(("pooling", "outputs"), [("cls", 1), ("mean", 3), (["cls", "max"], 1)])
def test_logits_are_those_of_sentence_transformers(
    pooling: object, outputs: int, bert: Path, tmp_path: Path
) -> None:
    folder = folders.pair_scorer(bert, tmp_path / "c", pooling, outputs)
    if isinstance(pooling, list):
        folders.add_dense(folder, "2_Dense", 2 * folders.WIDTH, 24, bias=False)
    expected = predicted(folder, torch.nn.Identity()).reshape(len(PAIRS), outputs)
    np.testing.assert_allclose(logits(folder), expected, atol=2e-6)
    assert StatedModel.read(folder).outputs == outputs
    assert len(load_checkpoint(folder).model.config.id2label) == outputs  # type: ignore[union-attr, arg-type]


def test_a_body_without_token_types_is_given_none(tmp_path: Path) -> None:
    folder = folders.pair_scorer(modern(tmp_path / "b"), tmp_path / "c")
    np.testing.assert_allclose(logits(folder)[:, 0], predicted(folder), atol=2e-6)


def test_the_kind_and_the_score_are_those_of_its_folder(scorer: Path, tmp_path: Path) -> None:
    claimed = claimed_kind(scorer)
    assert (claimed.name, "BertModel with a classification head" in claimed.reason) == ("cross-encoder", True)
    source = load_checkpoint(scorer)
    assert (source.head, source.architecture) == ("classification_head", "BertModel")
    assert load_checkpoint(scorer, head="none").head == "none"
    labels = Labels(source="classification_head", names=["LABEL_0"], ids=[0])
    assert resolve_score(source, None, labels).kind == "logit"
    other = tmp_path / "c"
    shutil.copytree(scorer, other)
    folders.change(other, "config_sentence_transformers.json", activation_fn=None)
    assert resolve_score(load_checkpoint(other), None, labels).kind == "probability"
    np.testing.assert_allclose(predicted(other), 1 / (1 + np.exp(-logits(other)[:, 0])), atol=1e-6)


def without(module: str) -> Callable[[Path], object]:
    kinds = [
        ("Transformer", ""),
        ("Pooling", "1_Pooling"),
        ("LayerNorm", "3_LayerNorm"),
        ("Dense", "4_Dense"),
    ]
    return lambda folder: folders.state_modules(folder, *(kind for kind in kinds if kind[0] != module))


def changed(file: str, **values: object) -> Callable[[Path], object]:
    return lambda folder: folders.change(folder, file, **values)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no scores at the end": (without("Dense"), r"modules Transformer, Pooling, LayerNorm: .*a Dense layer last"),
    "a width of another": (without("Transformer!"), r"3_LayerNorm/config\.json: dimension 24 does not fit .* 32 wide"),
    "another output": (
        changed("4_Dense/config.json", module_output_name="sentence_embedding"),
        r"module_output_name 'sentence_embedding' must be scores",
    ),
    "scores too early": (
        changed("2_Dense/config.json", module_output_name="scores"),
        r"2_Dense/config\.json: module_output_name 'scores' must be sentence_embedding",
    ),
    "a norm with an eps": (changed("3_LayerNorm/config.json", eps=1e-3), r"eps 0\.001 is not known"),
    "another task": (
        changed("sentence_bert_config.json", transformer_task="fill-mask"),
        r"transformer_task 'fill-mask' must be feature-extraction: a Pooling module follows",
    ),
    "another width": (changed("1_Pooling/config.json", word_embedding_dimension=48), r"is 48, and .* 32 values"),
    "no weights": (
        lambda folder: (folder / "3_LayerNorm/model.safetensors").unlink(),
        r"LayerNorm module '.*' has no model\.safetensors, and pickles are never loaded",
    ),
    "lowercased": (changed("sentence_bert_config.json", do_lower_case=True), r"do_lower_case True cannot be exported"),
    "a prompt": (
        changed("config_sentence_transformers.json", prompts={"q": "a:"}, default_prompt_name="q"),
        r"puts 'a:' before each pair",
    ),
    "a chat": (
        changed(
            "sentence_bert_config.json",
            modality_config={
                "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"}
            },
        ),
        r"reads a pair as messages of a chat template, which a pair's frame lacks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_another_score_is_refused(case: str, scorer: Path, tmp_path: Path) -> None:
    edit, said = REFUSED[case]
    folder = tmp_path / "c"
    shutil.copytree(scorer, folder)
    edit(folder)
    with pytest.raises(RankportError, match=said):
        export(folder, tmp_path / "b", kind="cross-encoder")


def test_embeddings_and_rankers_are_not_to_be_had_of_it(scorer: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model_type 'CrossEncoder' is no encoder"):
        export(scorer, tmp_path / "b", kind="item-encoder")
    with pytest.raises(CheckpointError, match=r"head named 'scores', .*--kind cross-encoder"):
        export(scorer, tmp_path / "b", kind="ranker")


@full_effort
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_bundle_of_it(quantize: str | None, tmp_path: Path) -> None:
    folder = folders.pair_scorer(modern(tmp_path / "b"), tmp_path / "c")
    bundle = export(folder, tmp_path / "ce", quantize=quantize)
    parity = bundle.manifest.parity
    assert parity is not None
    assert ("sentence_transformers" in [mode.mode for mode in parity.modes]) == (quantize is None)
    with Scorer.load(bundle) as scorer:
        scores = [scorer.score({"query": query}, [item]).scores[0] for query, item in PAIRS]
    np.testing.assert_allclose(scores, predicted(folder), atol=1e-5 if quantize is None else 0.2)
    assert verify(bundle.path, folder).failures == ()
