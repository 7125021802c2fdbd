"""The export of a list ranker that reads its items alone (E2Rank): two reads and a cosine, as its owner has them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.list_ranker.graphs import list_model
from rankport.exporters.kinds.list_ranker.proof.stated import require_stated
from rankport.exporters.kinds.table import kind_named
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, ParityError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.sections.lists import ListSegment
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.scorer import Scorer
from support.lists.alone import RECIPE, decoder_checkpoint

ITEMS = ["hospital nurse", "welder", "software engineer", "teacher", "baker", "pilot"]


def owners_scores(checkpoint: Path, query: str, items: Sequence[str], listed: int) -> np.ndarray:
    """The owner's pipeline, with transformers: each text whole, last-token pooling, vectors of length 1."""
    model = transformers.AutoModel.from_pretrained(checkpoint).eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    inside = "\n".join(f"[{place}] {item}" for place, item in enumerate(items[:listed], 1))
    prompt = (
        f"<|im_start|>user\nrank the items that answer the query:\nitems:\n{inside}\nquery: {query}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n"
    )

    def vector(text: str) -> torch.Tensor:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids])
        return torch.nn.functional.normalize(model(input_ids=ids).last_hidden_state[0, -1], dim=0)

    with torch.no_grad():
        own = torch.stack([vector(f"{item}<|endoftext|>") for item in items])
        scores: np.ndarray = (own @ vector(prompt)).numpy()
    return scores


def test_scores_are_those_of_the_owners_two_reads(alone_bundle: Bundle, alone_checkpoint: Path) -> None:
    """Items behind the first four are in no prompt, and compared with it all the same."""
    with Scorer.load(alone_bundle, config=EngineConfig(threads=1)) as scorer:
        for count in (1, 4, 6):
            expected = owners_scores(alone_checkpoint, "nurse", ITEMS[:count], listed=4)
            np.testing.assert_allclose(scorer.score("nurse", ITEMS[:count]).scores, expected, atol=2e-6)


def test_it_is_proven_in_every_mode(alone_bundle: Bundle) -> None:
    parity = alone_bundle.manifest.parity
    assert parity is not None
    items = {mode.mode: mode.items for mode in parity.modes}
    assert items == {
        "one_item": 3,
        "one_block": 12,
        "permuted": 4,
        "several_blocks": 9,
        "truncation": 4,
        "token_ids": 4,
    }
    assert max(mode.max_abs_error for mode in parity.modes) < 2e-6
    assert parity.reference == "RankportListRanker in torch, the prompt or an item at a time as one text"
    order = parity.order
    assert order is not None
    assert 0 < order.max_score_move < 2


def test_the_owners_file_says_how_a_plain_decoder_ranks_lists(
    alone_bundle: Bundle, alone_checkpoint: Path
) -> None:
    assert claimed_kind(alone_checkpoint).kind is kind_named("list-ranker")
    manifest = alone_bundle.manifest
    lists = manifest.lists
    assert lists is not None
    assert (lists.join, lists.max_items, lists.max_tokens, lists.width) == ("first", 4, 200, 24)
    assert (lists.item_marker, lists.query_marker, lists.marker_ids) == (None, None, ())
    assert lists.tail[-1].text == "assistant\n<think>\n\n"
    assert (manifest.limits.max_prefix_tokens, manifest.limits.max_item_tokens) == (20, 40)
    assert any("list_ranker.toml says how it ranks lists" in note for note in manifest.source.notes)
    assert verify(alone_bundle.path, alone_checkpoint).failures == ()


def test_the_file_is_part_of_the_checkpoint(tmp_path: Path, alone_checkpoint: Path) -> None:
    """Its word changes scores, so another file is another source; without it the decoder ranks no lists."""
    other = decoder_checkpoint(tmp_path / "c", RECIPE.replace("rank the items", "order the items"))
    assert load_checkpoint(other).sha256 != load_checkpoint(alone_checkpoint).sha256
    (other / "list_ranker.toml").unlink()
    with pytest.raises(
        CheckpointError, match=r"Qwen3ForCausalLM is read at no markers: .* or list_ranker\.toml"
    ):
        export(other, tmp_path / "out", kind="list-ranker")


def test_an_item_read_otherwise_than_its_source_is_told(alone_bundle: Bundle, alone_checkpoint: Path) -> None:
    lists = alone_bundle.manifest.lists
    assert lists is not None
    edited = alone_bundle.manifest.model_copy(
        update={"lists": lists.model_copy(update={"alone": [ListSegment(item=True)]})}
    )
    source = load_checkpoint(alone_checkpoint)
    with pytest.raises(ParityError, match=r"lists\.alone: is .*, the source says .*endoftext"):
        require_stated(edited, list_model(source).form, source)


def test_graphs_for_cuda_are_made(alone_checkpoint: Path, exported: Callable[..., Bundle]) -> None:
    made = exported(
        alone_checkpoint, name="alone-gpu", kind="list-ranker", target="onnx-cpu,onnx-cuda", precision="fp16"
    )
    assert [graph.target for graph in made.manifest.graphs] == ["onnx-cpu", "onnx-cuda"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            ('join = "first"', 'join = "independent"'),
            "read_out is cosine, join is independent: items that are",
        ),
        (("{ item = true }, { special", "{ special"), "need one segment item = true each, have 1 and 0"),
        (("{ number = 1 }", '{ mark = "item" }'), "no segment is a mark: leave marks out"),
        (("max_items = 4", 'max_items = 4\nbody = "qwen3"'), "body: is what config.json says: leave it out"),
        (("max_items = 4", "max_items = "), "not a readable TOML file"),
        (("max_items = 4", "max_item = 4"), r"list_ranker\.toml: .*max_item"),
        (("<|endoftext|>", "<|end|>"), r"alone\[1\]: '<\|end\|>' is no token"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(edit: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert edit[0] in RECIPE
    folder = decoder_checkpoint(tmp_path / "c", RECIPE.replace(*edit))
    with pytest.raises(Exception, match=message) as refused:
        export(folder, tmp_path / "out", kind="list-ranker")
    assert type(refused.value).__name__ == "CheckpointError"


def test_embedding_tokens_are_refused(alone_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(
        Exception, match="--item-encoder: this list ranker reads the text of each item by itself too"
    ):
        export(
            alone_checkpoint, tmp_path / "out", kind="list-ranker", item_encoder="e" * 64, embedding_tokens=2
        )


def test_the_recipe_of_the_docs_is_one(tmp_path: Path) -> None:
    """Its tokens are those of Qwen3, and its texts those that E2Rank's published code writes."""
    docs = Path(__file__).parents[4] / "docs" / "lists.md"
    section = docs.read_text(encoding="utf-8").partition("\n## Items read alone\n")[2].partition("\n## ")[0]
    (recipe,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    model = list_model(load_checkpoint(decoder_checkpoint(tmp_path / "c", recipe)))
    template = model.form.template
    assert (model.form.max_items, model.form.max_item_tokens) == (20, 1024)
    assert [segment.special for segment in template.alone] == [None, ["<|endoftext|>"]]
    assert template.tail[-1].text == "assistant\n<think>\n\n</think>\n\n"
