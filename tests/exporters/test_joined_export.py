"""A prompt with joined segments, exported: ids and scores are those of the whole text through the model."""

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM

from rankport.exporters.export import export
from rankport.runtime.kinds.ranker.ranker import Ranker
from support import checkpoints

PROMPT = """labels = ["yes", "no"]
[[prefix]]
text = "<Query>: "
[[prefix]]
field = "query"
%(query)s
[[prefix]]
text = "\\n<Document>: "
%(text)s
[[item]]
item = true
%(item)s
"""
JOINED = dict.fromkeys(("query", "text", "item"), "joined = true")
QUERY, ITEMS = "what is it", ["it is", "what what", "is at it"]


def _tokenizer() -> Tokenizer:
    """Trains byte pairs within the tiny checkpoints' vocabulary, their labels at the ids that others have too."""
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")  # type: ignore[assignment]
    names = [*checkpoints.WORDS[:4], "yes", "no"]
    trainer = trainers.BpeTrainer(
        vocab_size=checkpoints.VOCABULARY, special_tokens=names, show_progress=False
    )
    made.train_from_iterator(["<Query>: what is it\n<Document>: it is no"] * 20, trainer)
    return made


def test_scores_are_those_of_the_joined_text(ranker_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c"
    shutil.copytree(ranker_checkpoint, checkpoint)
    tokenizer = _tokenizer()
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    prompt = tmp_path / "prompt.toml"
    prompt.write_text(PROMPT % JOINED)
    bundle = export(
        checkpoint, tmp_path / "b", kind="ranker", prompt=prompt, max_prefix_tokens=40, max_item_tokens=24
    )
    manifest = bundle.manifest
    assert manifest.tokenization is not None
    assert manifest.tokenization.different == 0
    assert manifest.source.notes == []
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    assert manifest.labels is not None
    texts = [f"<Query>: {QUERY}\n<Document>: {item}" for item in ITEMS]
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([tokenizer.encode(text).ids])).logits[0, -1] for text in texts]
    expected = torch.stack([row[manifest.labels.ids] for row in logits]).numpy()
    with Ranker.load(bundle.path) as ranker:
        result = ranker.score(QUERY, ITEMS)
    assert result.logits == pytest.approx(expected, abs=1e-4)
