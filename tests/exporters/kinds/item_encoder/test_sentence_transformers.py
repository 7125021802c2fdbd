"""Folders of sentence-transformers: each thing that one says has the value that sentence-transformers gives it.

The exported module and the reference of its proof are both run in torch; one real export joins many of them.
"""

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.item_encoder.kind import ITEM_ENCODER
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.plan import plan_item_encoder
from rankport.exporters.kinds.item_encoder.prompt import item_encoder_prompt
from rankport.exporters.kinds.item_encoder.proof.owners_pipeline import OwnersPipeline, owners_pipeline
from rankport.exporters.kinds.texts.encoder_module import encoder_module
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.exporters.steps.draft import draft_manifest
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest, ParityError
from rankport.runtime.bundle.manifest import ManifestDraft, Segment
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.prompt.encoder import PromptEncoder
from support import sentence_folders as folders

TEXTS = ["a", "a b c", "cook nurse pilot a", "a b c d e f g h " * 8]  # the last is over all limits
Rows = NDArray[np.float32]


def owners(folder: Path, **call: Any) -> Rows:
    """Encodes the texts by sentence-transformers. [texts, hidden]"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        rows: Rows = model.encode(TEXTS, show_progress_bar=False, **call)
    return rows


def planned(folder: Path, **given: Any) -> tuple[Any, ManifestDraft, Any]:
    """The checkpoint, the draft of its manifest and the tokenizer, as an export has them before any trace."""
    options = ItemEncoderOptions(output_dtype="float32", **given)
    source = load_checkpoint(folder, head="none")
    prompt = item_encoder_prompt(source, options)
    plan = plan_item_encoder(source, prompt, options)
    return source, draft_manifest(ITEM_ENCODER, "c", source, prompt, plan, options, []), prompt.tokenizer


def module_and_reference(folder: Path, **given: Any) -> tuple[Rows, Rows]:
    """Encodes the texts by the module to be traced, padded together, and by the reference, one at a time."""
    source, draft, tokenizer = planned(folder, **given)
    assert draft.embedding is not None
    tokens = PromptEncoder(draft, tokenizer).encode_items(TEXTS, "truncate").runs
    runs = [tokens.ids[start:end] for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
    longest = max(map(len, runs))
    ids = torch.tensor(np.stack([np.pad(run, (0, longest - len(run))) for run in runs]))
    mask = torch.tensor([[1] * len(run) + [0] * (longest - len(run)) for run in runs])
    with torch.no_grad():
        made = encoder_module(source, draft.embedding)(ids, mask).numpy()
    return made[:, 0], EncoderReference.of(source, draft.embedding).embeddings(runs)[:, 0]


def assert_as_its_owner(folder: Path, call: dict[str, Any] | None = None, **given: Any) -> Rows:
    expected = owners(folder, **(call or {}))
    made, reference = module_and_reference(folder, **given)
    np.testing.assert_allclose(made, expected, atol=2e-6, rtol=1e-5)
    np.testing.assert_allclose(reference, expected, atol=2e-6, rtol=1e-5)
    return expected


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.bert(tmp_path_factory.mktemp("sentence") / "bert")


MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_each_pooling_sees_the_prompt_or_not(
    mode: str, include_prompt: bool, base: Path, tmp_path: Path
) -> None:
    folder = folders.pooled(base, tmp_path / "c", {"pooling_mode": mode, "include_prompt": include_prompt})
    without = assert_as_its_owner(folder)
    folders.change(
        folder, "config_sentence_transformers.json", prompts={"q": "query: "}, default_prompt_name="q"
    )
    assert not np.allclose(assert_as_its_owner(folder), without, atol=1e-3)


def test_poolings_are_joined_in_the_order_that_either_form_states(base: Path, tmp_path: Path) -> None:
    listed = folders.pooled(base, tmp_path / "list", ["mean", "cls", "max"])
    assert assert_as_its_owner(listed).shape == (4, 96)
    flags = {
        "pooling_mode_max_tokens": True,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": True,
    }
    assert assert_as_its_owner(folders.pooled(base, tmp_path / "flags", flags)).shape == (4, 96)
    assert assert_as_its_owner(folders.pooled(base, tmp_path / "none", {})).shape == (
        4,
        32,
    )  # mean by default


def test_texts_are_cut_at_the_folders_limit(base: Path, tmp_path: Path) -> None:
    folder = folders.pooled(base, tmp_path / "c")
    assert planned(folder)[1].limits.max_item_tokens == folders.POSITIONS
    folders.change(folder, "tokenizer_config.json", model_max_length=12)
    longer = assert_as_its_owner(folder)
    folders.change(folder, "sentence_bert_config.json", max_seq_length=8, do_lower_case=False)
    assert planned(folder)[1].limits.max_item_tokens == 8
    shorter = assert_as_its_owner(folder)
    assert np.allclose(shorter[:2], longer[:2])
    assert not np.allclose(shorter[3], longer[3], atol=1e-3)
    built_in = {"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    folders.change(folder, "tokenizer.json", truncation=built_in)  # which counts where the config says none
    last = assert_as_its_owner(folder)
    assert not np.allclose(last[3], shorter[3], atol=1e-3)
    folders.change(folder, "tokenizer_config.json", truncation_side="right")
    assert np.allclose(assert_as_its_owner(folder), shorter)
    folders.change(folder, "tokenizer_config.json", truncation_side="left")
    assert np.allclose(assert_as_its_owner(folder), last)
    assert planned(folder, max_item_tokens=6)[1].limits.max_item_tokens == 6
    with pytest.raises(
        InvalidRequest, match=r"--max-item-tokens 9: .* reads 8 tokens .* sentence_bert_config.json"
    ):
        planned(folder, max_item_tokens=9)


@pytest.mark.parametrize(
    ("said", "given", "warned"),
    [
        (
            {"prompts": {"query": "query: ", "document": "title: none | text: "}},
            None,
            "has the prompt 'document', 'title: none | text: '",
        ),
        ({"prompts": {"corpus": "b", "passage": "a"}}, None, ""),
        ({"prompts": {"document": ""}, "default_prompt_name": "document"}, None, ""),
        (
            {"prompts": {"query": "q", "document": ""}, "default_prompt_name": "query"},
            None,
            "has the prompt 'document', ''",
        ),
        ({"prompts": {"query": "q"}, "default_prompt_name": "query"}, None, "has no prompt 'document'"),
        (
            {"prompts": {"passage": "a", "document": None}, "default_prompt_name": "passage"},
            None,
            "has no prompt 'document'",
        ),
        ({"prompts": {"query": "q", "document": "d"}, "default_prompt_name": "document"}, None, ""),
        ({"prompts": {"query": "q", "document": "d"}}, "query", ""),
        ({"prompts": {"query": "q"}}, None, ""),
    ],
)
def test_a_prompt_of_documents_that_nobody_asked_for_is_warned_of(
    said: dict[str, Any], given: str | None, warned: str, base: Path, tmp_path: Path
) -> None:
    folder = folders.pooled(base, tmp_path / "c")
    folders.change(folder, "config_sentence_transformers.json", **said)
    source = load_checkpoint(folder, head="none")
    warnings = item_encoder_prompt(source, ItemEncoderOptions(prompt_name=given)).warnings
    assert len(warnings) == bool(warned)
    assert all(f"{warned}: encode_document of" in warning for warning in warnings)
    # The owner's own two ways differ where it is warned of, and are one where it is not.
    from sentence_transformers import SentenceTransformer

    owner = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    same = np.allclose(
        owner.encode(["cook"], prompt_name=given), owner.encode_document(["cook"], prompt_name=given)
    )
    assert same is not bool(warned)


@pytest.mark.parametrize(
    ("prompts", "options", "queries"),
    [
        ({}, {}, "as-items"),
        ({"query": "", "document": ""}, {}, "as-items"),
        ({}, {"prompt": "bare"}, "as-items"),
        ({"query": "query: ", "document": ""}, {}, None),
        ({"query": "query: ", "document": ""}, {"prompt": "bare"}, None),
        ({"passage": "passage: "}, {"prompt_name": "passage"}, None),
    ],
)
def test_queries_are_read_as_items_where_no_text_tells_them_apart(
    prompts: dict[str, str], options: dict[str, str], queries: str | None, base: Path, tmp_path: Path
) -> None:
    folder = folders.pooled(base, tmp_path / "c")
    folders.change(folder, "config_sentence_transformers.json", prompts=prompts)
    assert planned(folder, **options)[1].queries == queries


def test_special_tokens_of_a_prompt_file_may_tell_items_from_queries(base: Path, tmp_path: Path) -> None:
    folder, prompt = folders.pooled(base, tmp_path / "c"), tmp_path / "prompt.toml"
    frame = "[[item]]\nspecial = ['{}']\n[[item]]\nitem = true\n[[item]]\nspecial = ['{}']\n"
    before, _, after = planned(folder, prompt="bare")[1].prompt.item
    for first, queries in ((before.special[0], "as-items"), (after.special[0], None)):
        prompt.write_text(frame.format(first, after.special[0]))
        assert planned(folder, prompt=str(prompt))[1].queries == queries


def test_a_prompt_is_chosen_by_name(base: Path, tmp_path: Path) -> None:
    folder = folders.pooled(base, tmp_path / "c")
    prompts = {"query": "query: ", "passage": "passage: ", "none": ""}
    folders.change(folder, "config_sentence_transformers.json", prompts=prompts, similarity_fn_name="dot")
    bare = assert_as_its_owner(folder)
    passage = assert_as_its_owner(folder, {"prompt_name": "passage"}, prompt_name="passage")
    assert not np.allclose(passage, bare, atol=1e-3)
    notes = planned(folder)[1].source.notes
    assert notes[0].startswith("no prompt is put before an item: ")
    assert "query, passage and no default; --prompt-name picks one" in notes[0]
    assert notes[1] == "config_sentence_transformers.json compares embeddings by dot"
    with pytest.raises(InvalidRequest, match=r"'other' is none of .*: there are query, passage, none"):
        planned(folder, prompt_name="other")
    with pytest.raises(InvalidRequest, match=r"--prompt p.toml and --prompt-name query contradict"):
        ItemEncoderOptions(prompt="p.toml", prompt_name="query")
    with pytest.raises(InvalidRequest, match=r"no modules.json of sentence-transformers"):
        planned(base, prompt_name="query", pooling="mean")


def test_the_output_is_cut_last_and_not_normalized_again(base: Path, tmp_path: Path) -> None:
    folder = folders.pooled(base, tmp_path / "c", "mean", ("Normalize", "2_Normalize"))
    folders.change(folder, "config_sentence_transformers.json", truncate_dim=16)
    lengths = np.linalg.norm(assert_as_its_owner(folder), axis=1)
    assert (lengths < 0.95).all()
    embedding = planned(folder)[1].embedding
    assert embedding is not None
    assert (embedding.hidden_size, embedding.cut_from) == (16, 32)
    folders.change(folder, "config_sentence_transformers.json", truncate_dim=64)  # more than there is
    assert assert_as_its_owner(folder).shape == (4, 32)


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid"])
def test_a_dense_layer_is_part_of_the_module(activation: str, base: Path, tmp_path: Path) -> None:
    path = "linear" if activation == "Identity" else "activation"
    folder = folders.pooled(base, tmp_path / "c", "cls", ("Dense", "2_Dense"), ("Dropout", "3_Dropout"))
    function = f"torch.nn.modules.{path}.{activation}"
    folders.add_dense(folder, "2_Dense", 32, 24, bias=activation != "ReLU", activation_function=function)
    folders.write(folder, "3_Dropout/config.json", {"dropout": 0.5})
    assert assert_as_its_owner(folder).shape == (4, 24)


def test_dense_layers_follow_each_other_and_may_add_their_input(base: Path, tmp_path: Path) -> None:
    modules = [("Dense", "2_Dense"), ("Dense", "3_Dense"), ("Normalize", "4_Normalize")]
    folder = folders.pooled(base, tmp_path / "c", ["cls", "mean"], *modules)
    folders.add_dense(folder, "2_Dense", 64, 20, use_residual=True)
    folders.add_dense(folder, "3_Dense", 20, 20, use_residual=True, bias=False)
    assert assert_as_its_owner(folder).shape == (4, 20)


@pytest.mark.parametrize(
    ("poolings", "widths", "wrong", "comes"),
    [("mean", [(24, 8)], "2_Dense", 32), (["cls", "mean"], [(64, 20), (24, 8)], "3_Dense", 20)],
)
def test_a_dense_layer_of_another_width_than_comes_in_is_named(
    poolings: Any, widths: list[tuple[int, int]], wrong: str, comes: int, base: Path, tmp_path: Path
) -> None:
    names = [f"{place}_Dense" for place, _ in enumerate(widths, 2)]
    folder = folders.pooled(base, tmp_path / "c", poolings, *(("Dense", name) for name in names))
    for name, (into, out) in zip(names, widths, strict=True):
        folders.add_dense(folder, name, into, out)
    with pytest.raises(
        CheckpointError, match=rf"{wrong}.config\.json: in_features 24 do not fit .* {comes} wide"
    ):
        planned(folder)


def test_folders_are_those_that_modules_json_names(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folders.pooled(base, folder / "0_Transformer", "cls")  # its own modules.json and pooling are stale there
    folders.change(folder / "0_Transformer", "sentence_bert_config.json", max_seq_length=8)
    folders.write(folder, "1_Pooling/config.json", {"pooling_mode": "max"})  # stale
    pooling = {"pooling_mode": "weightedmean", "embedding_dimension": 32}
    folders.write(folder, "7_Pooling/config.json", pooling)
    folders.state_modules(folder, ("Transformer", "0_Transformer"), ("Pooling", "7_Pooling"))
    assert_as_its_owner(folder)
    assert planned(folder)[1].limits.max_item_tokens == 8


def test_the_checkpoints_hash_covers_what_is_read_and_no_stale_file(base: Path, tmp_path: Path) -> None:
    folder = folders.pooled(base, tmp_path / "c", "mean", ("Dense", "2_Dense"))
    folders.add_dense(folder, "2_Dense", 32, 24)
    seen = {load_checkpoint(folder, head="none").sha256}
    changes: Sequence[Callable[[], object]] = (
        lambda: folders.add_dense(folder, "2_Dense", 32, 23),
        lambda: folders.change(folder, "2_Dense/config.json", bias=False),
        lambda: folders.change(folder, "1_Pooling/config.json", pooling_mode="cls"),
        lambda: folders.change(folder, "sentence_bert_config.json", max_seq_length=9),
        lambda: folders.change(folder, "config_sentence_transformers.json", truncate_dim=8),
        lambda: folders.change(folder, "tokenizer_config.json", truncation_side="left"),
    )
    for change in changes:
        change()
        seen.add(load_checkpoint(folder, head="none").sha256)
    assert len(seen) == 1 + len(changes)
    folders.write(folder, "9_Pooling/config.json", {"pooling_mode": "max"})
    assert load_checkpoint(folder, head="none").sha256 in seen


def test_a_lower_case_folder_needs_a_tokenizer_that_does_it(base: Path, tmp_path: Path) -> None:
    folder = folders.pooled(base, tmp_path / "c")
    folders.change(folder, "sentence_bert_config.json", do_lower_case=True)
    with pytest.raises(
        CheckpointError, match=r"do_lower_case is true, and .*tokenizer.json does not lowercase"
    ):
        planned(folder)


def test_a_cut_that_would_take_the_prompt_first_is_refused(base: Path, tmp_path: Path) -> None:
    folder = folders.pooled(base, tmp_path / "c")
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    folders.write(folder, "config_sentence_transformers.json", prompts)
    folders.change(folder, "tokenizer_config.json", truncation_side="left")
    with pytest.raises(CheckpointError, match=r"a cut takes the prompt 'query: ' first: set truncation_side"):
        planned(folder)


def test_why_the_owners_pipeline_does_not_stand_for_the_source(base: Path, tmp_path: Path) -> None:
    folder = folders.pooled(base, tmp_path / "c")
    source, draft, _ = planned(folder)
    assert isinstance(owners_pipeline(source, draft), OwnersPipeline)
    source, draft, _ = planned(folder, pooling="cls")
    assert owners_pipeline(source, draft) == "--pooling may say otherwise than the folder"
    source, draft, _ = planned(base, pooling="cls")
    assert owners_pipeline(source, draft) is None


@pytest.fixture(scope="module")
def rich(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.rich(base, tmp_path_factory.mktemp("rich") / "c")


def test_a_folder_is_exported_and_proven_against_sentence_transformers(rich: Path, tmp_path: Path) -> None:
    bundle = export(rich, tmp_path / "b", kind="item-encoder", output_dtype="float32")
    with ItemEncoder.load(bundle, config=EngineConfig(threads=1)) as encoder:
        vectors = encoder.encode(TEXTS, truncation="truncate")[:, 0]
    np.testing.assert_allclose(vectors, owners(rich), atol=2e-6, rtol=1e-5)
    verdict = verify(bundle.path, rich)
    assert verdict.failures == ()
    modes = {mode.mode: mode.max_abs_error for mode in verdict.proof.parity.modes}
    assert modes.keys() == {"one_item", "batch", "sentence_transformers"}
    assert modes["sentence_transformers"] < 1e-5


def test_a_tokenizer_that_the_owner_does_not_use_is_found_before_publishing(
    rich: Path, tmp_path: Path
) -> None:
    """Tokenizer files that disagree: the owner's class reads tokenizer_config.json too."""
    folder = tmp_path / "c"
    shutil.copytree(rich, folder)
    own = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    folders.change(folder / "0_Transformer", "tokenizer_config.json", **own)
    with pytest.raises(
        ParityError, match=r"sentence_transformers: .* tokenizer_config.json must make the ids"
    ):
        export(folder, tmp_path / "b", kind="item-encoder", output_dtype="float32")
    assert not (tmp_path / "b").exists()


def misread(draft: ManifestDraft) -> dict[str, ManifestDraft]:
    """Bundles that an export would make which left out, or misread, what the folder says."""
    assert draft.embedding is not None
    before, _, item, after = draft.prompt.item
    bare = draft.prompt.model_copy(update={"item": [before, Segment(item=True), after]})
    from_the_end = Segment(item=True, joined=True, keep="end")
    ends = draft.prompt.model_copy(update={"item": [*draft.prompt.item[:2], from_the_end, after]})
    assert item.keep == "start"
    forms = {
        "embedding.pooling": {"pooling": "mean"},
        "embedding.normalize": {"normalize": False},
        "embedding.skip_tokens": {"skip_tokens": 0},
        "embedding.dense": {"dense": []},
        "embedding.cut_from": {"cut_from": None},
    }
    made = {
        field: draft.model_copy(update={"embedding": draft.embedding.model_copy(update=change)})
        for field, change in forms.items()
    }
    made["prompt: is .* the folder says"] = draft.model_copy(update={"prompt": bare})
    made["prompt: .*end"] = draft.model_copy(update={"prompt": ends})
    wide = draft.limits.model_copy(update={"max_item_tokens": 40})
    return made | {"limits.max_item_tokens: is 40": draft.model_copy(update={"limits": wide})}


def test_what_an_export_misread_of_a_folder_is_told_by_its_field(rich: Path) -> None:
    source, draft, _ = planned(rich)
    assert isinstance(owners_pipeline(source, draft), OwnersPipeline)
    for field, wrong in misread(draft).items():
        with pytest.raises(ParityError, match=field):
            owners_pipeline(source, wrong)
