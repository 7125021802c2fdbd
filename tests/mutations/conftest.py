"""Sound bundles to plant faults into; exporters' fixtures, whose traces other tests share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mutations.fault import Subject, in_manifest
from mutations.owners import TITLES, judged_keys, owner_embeddings, owner_scores
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft, Segment
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support import checkpoints, sentence_folders
from support.forms.quantized_checkpoints import compressed_tensors
from support.reading import taggers
from support.reading.class_folders import level_classifier
from support.reading.onnx_folders import sentence_folder
from support.reading.pair_encoders import cross_encoder_folder
from support.reading.seq2seq import t5
from support.sets.rankers import set_checkpoint

Exported = Callable[..., Bundle]
LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}


@pytest.fixture(scope="session", autouse=True)
def kept(traces: object) -> None:
    """Keeps traces, which tests of exporters share."""


@pytest.fixture(scope="session")
def plain(ranker_checkpoint: Path, prompt_file: Path, exported: Exported) -> Subject:
    """A ranker of texts alone, with a tokenizer, a prompt and two label words."""
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 48}
    return Subject(
        exported(ranker_checkpoint, kind="ranker", prompt=prompt_file, **limits), ranker_checkpoint
    )


@pytest.fixture(scope="session")
def towers(wide_bundle: Bundle, wide_towers: Path) -> Subject:
    """Two towers apart, with wide features."""
    return Subject(wide_bundle, wide_towers)


@pytest.fixture(scope="session")
def mix(mix_bundle: Bundle, ranker_checkpoint: Path) -> Subject:
    """The same of embedding tokens too."""
    return Subject(mix_bundle, ranker_checkpoint)


@pytest.fixture(scope="session")
def half(ranker_checkpoint: Path, encoder_bundle: Bundle, prompt_file: Path, exported: Exported) -> Subject:
    """The ranker of embedding tokens in float16."""
    bundle = exported(
        ranker_checkpoint,
        kind="ranker",
        item_encoder=encoder_bundle.path,
        prompt=prompt_file,
        max_prefix_tokens=64,
        max_item_tokens=48,
        target="tensorrt",
        precision="fp16",
    )
    return Subject(bundle, ranker_checkpoint)


@pytest.fixture(scope="session")
def by_group(ranker_checkpoint: Path, prompt_file: Path, exported: Exported) -> Subject:
    """The ranker of texts for CUDA, whose query heads stand by group."""
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 48}
    bundle = exported(ranker_checkpoint, kind="ranker", prompt=prompt_file, target="onnx-cuda", **limits)
    return Subject(bundle, ranker_checkpoint)


@pytest.fixture(scope="session")
def gemma(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ranker with soft-capping, sliding windows, scaled embeddings, and norms that add 1."""
    shape = {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}
    checkpoint = checkpoints.causal_lm(tmp_path_factory.mktemp("gemma"), "gemma2", **shape)
    return Subject(exported(checkpoint, kind="ranker", label_ids=(9, 17), **LIMITS), checkpoint)


@pytest.fixture(scope="session")
def low_bit(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ranker of 4-bit weights in groups, with zero points."""
    checkpoint = compressed_tensors(tmp_path_factory.mktemp("low-bit") / "c", "W4A16_ASYM")
    return Subject(exported(checkpoint, kind="ranker", label_ids=(4, 5), **LIMITS), checkpoint)


@pytest.fixture(scope="session")
def fp8(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ranker for CUDA that multiplies fp8 by fp8."""
    checkpoint = compressed_tensors(tmp_path_factory.mktemp("fp8") / "c", "FP8_DYNAMIC", num_hidden_layers=1)
    options = {"kind": "ranker", "label_ids": (4, 5), "target": "onnx-cuda", "fp8_products": True}
    return Subject(exported(checkpoint, **options, **LIMITS), checkpoint)


@pytest.fixture(scope="session")
def encoder(encoder_bundle: Bundle, encoder_checkpoint: Path) -> Subject:
    """An item encoder of one mean-pooled float16 token, bidirectional."""
    return Subject(encoder_bundle, encoder_checkpoint)


@pytest.fixture(scope="session")
def owned(plain: Subject, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The ranker with a full stop behind each item, and its owner's scores."""
    folder = tmp_path_factory.mktemp("owned")
    stop = Segment(text=".", joined=True)

    def with_stop(draft: ManifestDraft) -> dict[str, object]:
        item, *rest = draft.prompt.item
        return {"prompt": draft.prompt.model_copy(update={"item": [item, stop, *rest]})}

    return in_manifest(with_stop)(
        replace(plain, options={"reference": owner_scores(plain.checkpoint, folder / "scores.jsonl")}), folder
    )


@pytest.fixture(scope="session")
def owned_encoder(encoder: Subject, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The item encoder and its owner's embeddings."""
    file = owner_embeddings(encoder.checkpoint, tmp_path_factory.mktemp("owned") / "embeddings.jsonl")
    return replace(encoder, options={"reference": file})


@pytest.fixture(scope="session")
def keyed(mix: Subject, encoder_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The ranker, a store of its encoder's tokens, and a judged request of them."""
    folder = tmp_path_factory.mktemp("keyed")
    with (
        ItemEncoder.load(encoder_bundle) as encoder,
        open_store(folder / "store", create=True) as store,
    ):
        form = encoder.describe()
        spec = TokenSpec(form.embedding_tokens, form.hidden_size, form.embedding_dtype)
        tokens = store.namespace(encoder.fingerprint, spec, create=True)
        rows = zip(TITLES, encoder.encode(TITLES), strict=True)
        tokens.put_many([TokenEntry(key, row, bytes(16)) for key, row in rows])
    judged = judged_keys(TITLES, folder / "judged.jsonl")
    return replace(mix, options={"store": folder / "store", "judged": judged})


@pytest.fixture(scope="session")
def classifier(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ranker with a classification head of two outputs, whose pad token ends every text."""
    fields = {"num_hidden_layers": 1, "pad_token_id": 2, "eos_token_id": 2}
    names = {"id2label": {0: "irrelevant", 1: "relevant"}, "label2id": {"irrelevant": 0, "relevant": 1}}
    folder = tmp_path_factory.mktemp("classifier")
    checkpoint = checkpoints.classifier(folder / "c", "qwen2", tokenizer=True, **fields, **names)
    tokens = {"item_encoder": "e" * 64, "embedding_tokens": 2}
    return Subject(exported(checkpoint, kind="ranker", **tokens, **LIMITS), checkpoint)


@pytest.fixture(scope="session")
def pairs(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A cross-encoder that sentence-transformers wrote: token types, one output, a sigmoid."""
    checkpoint = cross_encoder_folder(tmp_path_factory.mktemp("pairs") / "ce")
    return Subject(exported(checkpoint, kind="cross-encoder"), checkpoint)


@pytest.fixture(scope="session")
def classes(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A classifier of single texts, with three labels."""
    checkpoint = level_classifier(tmp_path_factory.mktemp("classes") / "c")
    return Subject(exported(checkpoint, kind="classifier"), checkpoint)


@pytest.fixture(scope="session")
def folder(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """An item encoder of a sentence-transformers folder: prompt, limit, pooling, Dense, Normalize and a cut."""
    place = tmp_path_factory.mktemp("folder")
    checkpoint = sentence_folders.rich(sentence_folders.bert(place / "bert"), place / "c")
    return Subject(exported(checkpoint, kind="item-encoder", output_dtype="float32"), checkpoint)


@pytest.fixture(scope="session")
def first_token(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A cross-encoder of a T5 that answers true or false."""
    checkpoint = t5(tmp_path_factory.mktemp("t5") / "monot5-tiny")
    return Subject(exported(checkpoint, kind="cross-encoder", prompt="monot5"), checkpoint)


@pytest.fixture(scope="session")
def imported(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """An item encoder of a graph that optimum would export, which gives embeddings of its own."""
    place = tmp_path_factory.mktemp("imported")
    base = checkpoints.body(place / "base", "bert", tokenizer=True, num_hidden_layers=1)
    checkpoint = sentence_folder(base, place / "onnx")
    bundle = exported(checkpoint, kind="item-encoder", output_dtype="float32", max_item_tokens=32)
    return Subject(bundle, checkpoint)


@pytest.fixture(scope="session")
def tagger(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A tagger of words, decoded by a linear-chain CRF."""
    checkpoint = taggers.tagger_checkpoint(tmp_path_factory.mktemp("tagger") / "c")
    tables = taggers.random_crf(taggers.NAMES)
    taggers.write_crf(checkpoint, tables, kind="linear-chain", labels=list(taggers.NAMES), unit="word")
    return Subject(exported(checkpoint, kind="tagger", max_item_tokens=24), checkpoint)


@pytest.fixture(scope="session")
def lists(list_bundle: Bundle, list_checkpoint: Path) -> Subject:
    """A list ranker of blocks of four, of texts and embedding tokens."""
    return Subject(list_bundle, list_checkpoint)


@pytest.fixture(scope="session")
def alone_lists(alone_bundle: Bundle, alone_checkpoint: Path) -> Subject:
    """A list ranker that reads items alone too, four of them in its prompt."""
    return Subject(alone_bundle, alone_checkpoint)


@pytest.fixture(scope="session")
def sets(set_bundle: Callable[[str, str], Bundle], tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ranker of sets whose candidates see each other, with times and tables in int8."""
    checkpoint = set_checkpoint(tmp_path_factory.mktemp("sets") / "checkpoint", "hstu")
    return Subject(set_bundle("hstu", "set-wise"), checkpoint)


@pytest.fixture(scope="session")
def keyed_sets(set_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The ranker of sets whose movies are known by ids of 64 bits."""
    checkpoint = set_checkpoint(tmp_path_factory.mktemp("sets") / "checkpoint", "hstu", keyed=True)
    return Subject(set_bundle("hstu", "set-wise", keyed=True), checkpoint)


@pytest.fixture(scope="session")
def gathered_sets(set_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Bundle with graphs for CUDA, which gather the rows of ids."""
    checkpoint = set_checkpoint(tmp_path_factory.mktemp("sets") / "checkpoint", "hstu")
    return Subject(set_bundle("hstu", "set-wise", "onnx-cuda"), checkpoint)


@pytest.fixture(scope="session")
def generator(generator_bundle: Bundle, generator_checkpoint: Path) -> Subject:
    """A decoder that writes."""
    return Subject(generator_bundle, generator_checkpoint)


@pytest.fixture(scope="session")
def hybrid(hybrid_bundle: Bundle, hybrid_checkpoint: Path) -> Subject:
    """A decoder that writes, of recurrent layers too."""
    return Subject(hybrid_bundle, hybrid_checkpoint)


@pytest.fixture(scope="session")
def seq2seq(seq2seq_bundle: Bundle, seq2seq_checkpoint: Path) -> Subject:
    """An encoder-decoder that writes."""
    return Subject(seq2seq_bundle, seq2seq_checkpoint)
