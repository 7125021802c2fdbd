"""A CrossEncoder's folder says how pairs are read: by its chat template, or framed by its tokenizer."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, processors

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.owners_pairs import OwnersPairs
from rankport.exporters.kinds.ranker.plan import check_ranker, plan_ranker, ranker_prompt
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, ParityError
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.kinds.ranker.ranker import Ranker
from support import checkpoints, sentence_folders

OWN = "config_sentence_transformers.json"
SETTINGS = "sentence_bert_config.json"
_CONTENT = ' | map(attribute="content") | first'
ROLES = "".join(
    f'{{% set {name} = messages | selectattr("role", "eq", "{role}"){_CONTENT} | default("it", true) %}}'
    for name, role in (("s", "system"), ("q", "query"), ("d", "document"))
)
TEMPLATE = (
    ROLES
    + "<|im_start|>user\n<Instruct>: {{ s }}\n<Query>: {{ q }}\n<Document>: {{ d }}<|im_end|>\n"
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUERY, ITEMS = "what is it", ["red shoes", " boots: 12 \n", "query", "Café, 東京"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a decoder whose first label is said by a token, and its template by a file."""
    folder = checkpoints.causal_lm(
        tmp_path_factory.mktemp("saved") / "c", "qwen3", vocab_size=512, max_position_embeddings=512
    )
    sentence_folders.chat_tokenizer(folder)
    kinds = ("base.modules.transformer.Transformer", "cross_encoder.modules.logit_score.LogitScore")
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, ("", "1_LogitScore"), strict=True))
    ]
    sentence_folders.write(folder, "modules.json", entries)
    sentence_folders.write(folder, "1_LogitScore/config.json", {"true_token_id": 65, "false_token_id": 66})
    forward = {"method": "forward", "method_output_name": "logits"}
    settings = {
        "transformer_task": "text-generation",
        "modality_config": {"text": forward, "message": forward | {"format": "flat"}},
        "module_output_name": "causal_logits",
        "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
    }
    sentence_folders.write(folder, SETTINGS, settings)
    sentence_folders.write(folder, OWN, {"model_type": "CrossEncoder", "__version__": {}})
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "c")
    return tmp_path / "c"


def resolved(folder: Path, prompt: str | None = None) -> ResolvedPrompt:
    return ranker_prompt(load_checkpoint(folder), RankerOptions(prompt=prompt))


def owners_scores(folder: Path) -> np.ndarray:
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    return np.asarray(model.predict([(QUERY, item) for item in ITEMS], batch_size=1))


def test_the_prompt_is_what_the_template_makes_of_a_pair(folder: Path) -> None:
    check_ranker(folder, RankerOptions())
    assert resolved(folder).prompt == Prompt(
        prefix=[
            Segment(special=["<|im_start|>"]),
            Segment(text="user\n<Instruct>: it\n<Query>: "),
            Segment(field="query", joined=True),
            Segment(text="\n<Document>: ", joined=True),
        ],
        item=[
            Segment(item=True, joined=True),
            Segment(special=["<|im_end|>"]),
            Segment(text="\n"),
            Segment(special=["<|im_start|>"]),
            Segment(text="assistant\n"),
        ],
    )


def test_scores_are_those_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    sentence_folders.change(folder, OWN, prompts={"red": "red shoes"}, default_prompt_name="red")
    export(folder, tmp_path / "out")
    with Ranker.load(tmp_path / "out") as ranker:
        ours = ranker.score({"query": QUERY}, ITEMS).scores
    theirs = owners_scores(folder)
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.ptp(theirs) > 1e-3
    assert verify(tmp_path / "out", folder).failures == ()
    # The folder's prompt stood in it, as the template's system message.
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("{{ s }}", "it"))
    assert np.abs(ours - owners_scores(folder)).max() > 1e-4


def test_a_template_with_the_document_before_the_query_is_read_as_sentence_transformers_reads_it(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "chat_template.jinja").write_text(
        ROLES + "Is it?\n<Document> {{ d }}\n<Query> {{ q }}{{ s }} ??"
    )
    prompt = resolved(folder).prompt
    assert (len(prompt.prefix), prompt.fields, prompt.item_fields) == (1, ("query",), ("query",))
    export(folder, tmp_path / "out")
    with Ranker.load(tmp_path / "out") as ranker:
        described = ranker.describe()
        ours = ranker.score({"query": QUERY}, ITEMS).scores
        other = ranker.score({"query": "another one"}, ITEMS).scores
    assert np.abs(ours - owners_scores(folder)).max() < 1e-5
    assert np.abs(ours - other).max() > 1e-4
    # Items have the positions that what all requests share leaves.
    shared = len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("Is it?\n<Document>").ids)
    assert (described.max_prefix_tokens, described.max_item_tokens) == (shared, 512 - shared)


def test_another_prompt_in_the_bundle_fails_the_proof(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Prompt(prefix=[Segment(field="query")], item=[Segment(item=True)])
    monkeypatch.setattr(OwnersPairs, "prompt", lambda self, tokenizer: other)
    with pytest.raises(
        ParityError, match=r"the checkpoint's chat template makes other tokens of 'resistance"
    ):
        export(folder, tmp_path / "out")


def test_a_prompt_that_is_named_wins_and_says_where_it_differs(folder: Path, tmp_path: Path) -> None:
    (warning,) = resolved(folder, "bare").warnings
    assert (
        "the folder's chat template, by which sentence-transformers reads pairs, makes other tokens"
        in warning
    )
    assert warning.endswith("leave --prompt out to score as it does")
    source, options = load_checkpoint(folder), RankerOptions(prompt="bare")
    assert plan_ranker(source, ranker_prompt(source, options), options).overrides == ("prompt",)
    same = tmp_path / "prompt.toml"
    same.write_text(
        '[[prefix]]\nspecial = ["<|im_start|>"]\n[[prefix]]\ntext = "user\\n<Instruct>: it\\n<Query>: "\n[[prefix]]\n'
        'field = "query"\njoined = true\n[[prefix]]\ntext = "\\n<Document>: "\njoined = true\n[[item]]\nitem = true\n'
        'joined = true\n[[item]]\nspecial = ["<|im_end|>"]\n[[item]]\ntext = "\\n"\n[[item]]\nspecial = '
        '["<|im_start|>"]\n[[item]]\ntext = "assistant\\n"\n'
    )
    assert resolved(folder, str(same)).warnings == ()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            ROLES + "{{ d }}",
            "does not have the text of the query once.*: write the prompt as a file",
        ),
        (
            ROLES + "{{ q }}: {{ d }}, {{ q }}",
            "does not have the text of the query once.*: write the prompt as a file",
        ),
        (
            ROLES + "{{ q | trim }}\n{{ d }}.",
            r"makes other tokens of '  spaces around ' and ' and\\tbetween '",
        ),
        (ROLES + "{{ q.nothing() }}", "cannot be rendered: "),
    ],
)
def test_a_template_that_no_prompt_says_is_refused(template: str, reason: str, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match=rf"reads pairs, {reason}"):
        resolved(folder)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"modality_config": {"message": {"format": "auto"}}}, "format 'auto' must be flat or structured"),
        (
            {"processing_kwargs": {"text": {"max_length": 8}}},
            r"processing_kwargs: text .* only chat_template",
        ),
        (
            {"processing_kwargs": {"chat_template": {"max_length": 8}}},
            r"chat_template.max_length 8 cannot be",
        ),
        ({"processing_kwargs": {"chat_template": "x"}}, "chat_template 'x' must be an object"),
    ],
)
def test_settings_of_messages_that_a_bundle_lacks_are_refused(
    settings: dict[str, object], reason: str, folder: Path
) -> None:
    sentence_folders.change(folder, SETTINGS, **settings)
    with pytest.raises(CheckpointError, match=reason):
        resolved(folder)


def test_structured_messages_are_parts_with_a_type(folder: Path) -> None:
    flat = resolved(folder).prompt
    message = {"method": "forward", "method_output_name": "logits", "format": "structured"}
    sentence_folders.change(folder, SETTINGS, modality_config={"message": message})
    parts = TEMPLATE.replace("{{ q }}", "{{ q[0].text }}").replace("{{ d }}", "{{ d[0].text }}")
    (folder / "chat_template.jinja").write_text(parts)
    assert resolved(folder).prompt == flat


def test_pairs_that_are_no_chat_are_framed_as_the_tokenizer_frames_two_texts(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "chat_template.jinja").unlink()
    text = {"text": {"method": "forward", "method_output_name": "logits"}}
    sentence_folders.change(folder, SETTINGS, modality_config=text)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = [(name, tokenizer.token_to_id(name)) for name in ("<|im_start|>", "<|im_end|>")]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<|im_start|> $A",
        pair="<|im_start|> $A <|im_end|> $B <|im_end|>",
        special_tokens=special,
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    assert resolved(folder).prompt == Prompt(
        prefix=[Segment(special=["<|im_start|>"]), Segment(field="prefix"), Segment(special=["<|im_end|>"])],
        item=[Segment(item=True), Segment(special=["<|im_end|>"])],
    )
    export(folder, tmp_path / "out")
    with Ranker.load(tmp_path / "out") as ranker:
        ours = ranker.score(QUERY, ITEMS).scores
    assert np.abs(ours - owners_scores(folder)).max() < 1e-5
    assert resolved(folder, "bare").warnings == ()


BEFORE = "Given a query, judge the document.\nQuery: "


@pytest.fixture
def prompted(folder: Path) -> Path:
    """A folder whose pairs are no chat, with a text before each by default."""
    (folder / "chat_template.jinja").unlink()
    text = {"text": {"method": "forward", "method_output_name": "logits"}}
    sentence_folders.change(folder, SETTINGS, modality_config=text)
    sentence_folders.change(folder, OWN, prompts={"judge": BEFORE}, default_prompt_name="judge")
    return folder


def test_a_default_prompt_is_one_text_with_the_query(prompted: Path, tmp_path: Path) -> None:
    export(prompted, tmp_path / "out")
    with Ranker.load(tmp_path / "out") as ranker:
        ours = ranker.score(QUERY, ITEMS).scores
    assert np.abs(ours - owners_scores(prompted)).max() < 1e-5
    assert verify(tmp_path / "out", prompted).failures == ()
    assert resolved(prompted).prompt.prefix == [
        Segment(text=BEFORE),
        Segment(field="prefix", joined=True),
    ]
    # Without the text the owner's scores are others.
    sentence_folders.change(prompted, OWN, default_prompt_name=None)
    assert np.abs(ours - owners_scores(prompted)).max() > 1e-4


def test_special_tokens_in_a_default_prompt_are_tokens(prompted: Path) -> None:
    sentence_folders.change(prompted, OWN, prompts={"judge": "<|im_start|>query: "})
    assert resolved(prompted).prompt.prefix == [
        Segment(special=["<|im_start|>"]),
        Segment(text="query: "),
        Segment(field="prefix", joined=True),
    ]


def test_a_prompt_beside_a_default_one_says_where_it_differs(prompted: Path, tmp_path: Path) -> None:
    (warning,) = resolved(prompted, "bare").warnings
    assert f"the folder's default prompt {BEFORE!r}, by which" in warning
    same = tmp_path / "prompt.toml"
    same.write_text(
        f'[[prefix]]\ntext = {json.dumps(BEFORE)}\n[[prefix]]\nfield = "query"\njoined = true\n[[item]]\nitem = true\n'
    )
    assert resolved(prompted, str(same)).warnings == ()


def test_prompts_that_are_not_used_are_noted_and_a_default_of_none_is_refused(prompted: Path) -> None:
    assert resolved(prompted).notes == ()
    sentence_folders.change(prompted, OWN, default_prompt_name=None)
    (note,) = resolved(prompted).notes
    assert "has the prompts judge and no default" in note
    sentence_folders.change(prompted, OWN, default_prompt_name="web")
    with pytest.raises(CheckpointError, match="default_prompt_name 'web' is none of the prompts judge"):
        resolved(prompted)
