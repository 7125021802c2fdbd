"""Fixtures of more than one package: tiny checkpoints and their bundles, made once a run.

torch and the exporters are imported where they are used: most tests need neither.
"""

import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rankport.runtime.bundle.bundle import Bundle
from support.sharing.once import run_folder

with suppress(ImportError):  # a machine lent for tests of a GPU may lack it
    from hypothesis import HealthCheck, settings

    # How long an example takes says how busy the machine is; a folder is made anew by the test that wants it so.
    unchecked = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    settings.register_profile("rankport", deadline=None, suppress_health_check=unchecked)
    settings.load_profile("rankport")

PROMPT = """
labels = ["yes", "no"]
[[prefix]]
special = ["[BOS]"]
[[prefix]]
text = "query"
[[prefix]]
field = "query"
max_tokens = 12
[[item]]
item = true
max_tokens = 16
[[item]]
special = ["[EOS]"]
"""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what has no test of a GPU where those alone are asked for: a machine lent for them lacks packages."""
    if config.option.markexpr != "gpu":
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any(b"mark.gpu" in file.read_bytes() for file in files) else True


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Has no garbage collected while modules are imported: nearly all they make stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leaves all that is imported by now out of every garbage collection: an export asks for one a trace."""
    _freeze()


_freeze = gc.freeze  # before `left_frozen`; what is garbage by now may stay: looking for it takes longest


@pytest.fixture(scope="session", autouse=True)
def left_frozen() -> Iterator[None]:
    """Has servers that load and end in this process collect garbage without what is imported, which they would thaw."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("freeze", "unfreeze"):
            patch.setattr(gc, name, lambda: None)
        yield


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """While there, equal modules are traced once a run: see `sharing.traces`. Tests of exporters all have it."""
    from support.sharing.traces import import_tracer, kept_traces

    import_tracer()
    _freeze()
    gc.set_threshold(700, 10, 100)  # one that looks through all of a worker takes a second
    with kept_traces(run_folder(tmp_path_factory, "traces")) as kept:
        yield kept


@pytest.fixture(scope="session")
def exported(traces: object, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Exports checkpoints to bundles that all workers share, once a run: see `support.sharing.exported`."""
    from support.sharing.exported import Exports

    return Exports(run_folder(tmp_path_factory, "bundles"))


@pytest.fixture(scope="session")
def encoder_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bidirectional encoder with a tokenizer."""
    from support import checkpoints

    return checkpoints.body(tmp_path_factory.mktemp("encoder"), "bert", tokenizer=True)


@pytest.fixture(scope="session")
def encoder_bundle(encoder_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of that encoder: one mean-pooled float16 token an item."""
    options = {"kind": "item-encoder", "pooling": "mean", "max_item_tokens": 32}
    return exported(encoder_checkpoint, name="tiny-encoder", **options)


@pytest.fixture(scope="session")
def ranker_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with a tokenizer, head_dim unequal to hidden / heads."""
    from support import checkpoints

    return checkpoints.causal_lm(tmp_path_factory.mktemp("ranker"), "qwen3", tokenizer=True, head_dim=20)


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt with a literal, a field, special tokens and labels."""
    path = tmp_path_factory.mktemp("prompt") / "prompt.toml"
    path.write_text(PROMPT)
    return path


@pytest.fixture(scope="session")
def mix_bundle(
    ranker_checkpoint: Path, encoder_bundle: Bundle, prompt_file: Path, exported: Callable[..., Bundle]
) -> Bundle:
    """A ranker of embedding tokens, paired with `encoder_bundle`."""
    return exported(
        ranker_checkpoint,
        name="tiny-mix",
        kind="ranker",
        item_encoder=encoder_bundle.path,
        prompt=prompt_file,
        max_prefix_tokens=64,
        max_item_tokens=48,
    )


@pytest.fixture(scope="session")
def generator_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That decoder with heads of a width whose steps write keys and values in place, rotated by the operator."""
    from support import checkpoints

    return checkpoints.causal_lm(tmp_path_factory.mktemp("generator"), "qwen3", tokenizer=True, head_dim=32)


@pytest.fixture(scope="session")
def generator_bundle(generator_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """That decoder as a generator of texts behind 64 tokens, up to 64 long."""
    options = {"kind": "generator", "max_prefix_tokens": 64, "max_item_tokens": 64, "scores": "beginning"}
    return exported(generator_checkpoint, name="tiny-generator", **options)


@pytest.fixture(scope="session")
def chat_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with a chat template: thoughts of earlier answers are left out."""
    from support import checkpoints
    from support.chat_folders import TEMPLATES, write_tokenizer

    folder = checkpoints.causal_lm(tmp_path_factory.mktemp("chat"), "qwen3", vocab_size=512)
    write_tokenizer(folder, TEMPLATES["thinking"])
    return folder


@pytest.fixture(scope="session")
def chat_bundle(chat_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """That decoder as a generator that answers chats of 96 tokens, without thoughts of its own."""
    told = {"prompt": "chat", "chat_template_kwargs": '{"enable_thinking": false}'}
    return exported(
        chat_checkpoint, name="chat", kind="generator", max_prefix_tokens=96, max_item_tokens=32, **told
    )


@pytest.fixture(scope="session")
def hybrid_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of a recurrent layer, which convolves and attends linearly, and one of attention."""
    from support.hybrids import hybrid

    folder = tmp_path_factory.mktemp("hybrid") / "checkpoint"
    return hybrid(folder, "qwen3.5", tokenizer=True, max_position_embeddings=264)


@pytest.fixture(scope="session")
def hybrid_bundle(hybrid_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """That decoder as a generator of texts behind 64 tokens, up to 200 long, that end at a token it does not write."""
    options = {"kind": "generator", "max_prefix_tokens": 64, "max_item_tokens": 200, "scores": "whole"}
    return exported(hybrid_checkpoint, name="tiny-hybrid", stop_ids=(89,), **options)


@pytest.fixture(scope="session")
def hybrid_on_cuda(hybrid_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of the same checkpoint for CUDA."""
    options = {"kind": "generator", "max_prefix_tokens": 64, "max_item_tokens": 200, "scores": "whole"}
    return exported(hybrid_checkpoint, name="cuda-hybrid", stop_ids=(89,), target="onnx-cuda", **options)


@pytest.fixture(scope="session")
def seq2seq_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 with a head of its own and a tokenizer, whose texts are of many tokens."""
    from support.reading import seq2seq

    return seq2seq.t5(tmp_path_factory.mktemp("seq2seq") / "c", tie_word_embeddings=False)


@pytest.fixture(scope="session")
def seq2seq_bundle(seq2seq_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of that T5: it reads up to 32 tokens, and writes up to 24."""
    options = {"kind": "seq2seq", "max_prefix_tokens": 32, "max_item_tokens": 24}
    return exported(seq2seq_checkpoint, name="tiny-seq2seq", **options)


@pytest.fixture(scope="session")
def wide_towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of two towers: a CNN for queries, an LSTM for items, all interactions, wide features and an MLP."""
    from support.reading import two_towers

    module = two_towers.two_tower(
        towers={"query": two_towers.CNN, "item": two_towers.LSTM},
        interactions=["cosine", "dot", "hadamard", "concat", "difference"],
        wide=two_towers.WIDE,
        head=two_towers.MLP | {"outputs": ["clicked", "applied"], "positive": 1},
    )
    return two_towers.saved(module, tmp_path_factory.mktemp("towers") / "wide", tokenizer=True)


@pytest.fixture(scope="session")
def wide_bundle(wide_towers: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of `wide_towers`."""
    return exported(wide_towers, name="tiny-towers", kind="two-tower")


@pytest.fixture(scope="session")
def set_bundle(
    exported: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Bundle]:
    """Makes the bundle of a small ranker of sets, of a block, a mask and a target, its tables in int8."""
    from support.sets.rankers import set_checkpoint

    def made(block: str, policy: str, target: str = "onnx-cpu", *, keyed: bool = False) -> Bundle:
        place = tmp_path_factory.mktemp("sets") / "checkpoint"
        folder = set_checkpoint(place, block, policy=policy, keyed=keyed)
        return exported(folder, name=f"sets-{block}", kind="set-ranker", table_dtype="int8", target=target)

    return made


@pytest.fixture(scope="session")
def list_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ranker of lists in our own form: numbered items, blocks of four."""
    from support.lists.rankers import checkpoint

    return checkpoint(tmp_path_factory.mktemp("lists") / "checkpoint")


@pytest.fixture(scope="session")
def list_bundle(list_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of that ranker: items of text, or of two embedding tokens of the encoder "eee..."."""
    options = {"kind": "list-ranker", "item_encoder": "e" * 64, "embedding_tokens": 2}
    return exported(list_checkpoint, name="tiny-lists", **options)


@pytest.fixture(scope="session")
def alone_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose list_ranker.toml says that it reads items alone, and four of them in its prompt."""
    from support.lists.alone import decoder_checkpoint

    return decoder_checkpoint(tmp_path_factory.mktemp("alone") / "checkpoint")


@pytest.fixture(scope="session")
def alone_bundle(alone_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of that ranker."""
    return exported(alone_checkpoint, name="tiny-alone", kind="list-ranker")
