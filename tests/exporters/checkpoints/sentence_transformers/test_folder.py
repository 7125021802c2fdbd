"""Settings of a sentence-transformers folder that no bundle can have are refused by name, with the way out."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.sentence_transformers.dense import dense_layer, dense_weights
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.checkpoints.sentence_transformers.logit_score import LogitScore, stated_logit_score
from rankport.exporters.checkpoints.sentence_transformers.modules import transformer_folder
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.protos.errors import CheckpointError
from support import sentence_folders as folders

Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder without a model: reading it loads no weight."""
    (tmp_path / "base").mkdir()
    return folders.pooled(tmp_path / "base", tmp_path / "c")


def sets(file: str, **values: object) -> Change:
    return lambda folder: folders.change(folder, file, **values)


def modules(*stated: tuple[str, str]) -> Change:
    return lambda folder: folders.state_modules(folder, *stated)


def entries(*stated: object) -> Change:
    return lambda folder: folders.write(folder, "modules.json", list(stated))


BERT, OWN, POOLING = "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"
MESSAGE = {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"}
PAIR = (("Transformer", ""), ("Pooling", "1_Pooling"))
REFUSED: dict[str, tuple[Change, str]] = {
    "an unknown module": (
        modules(*PAIR, ("LayerNorm", "2")),
        "has a LayerNorm module, which .* lacks: .* serve",
    ),
    "another first module": (modules(("StaticEmbedding", ""), PAIR[1]), "has a StaticEmbedding module"),
    "no pooling": (modules(("Transformer", "")), "has the modules Transformer: only Transformer, Pooling"),
    "two poolings": (modules(*PAIR, PAIR[1]), "has the modules Transformer, Pooling, Pooling"),
    "normalized early": (
        modules(*PAIR, ("Normalize", "2"), ("Dense", "3")),
        "and then Normalize, in this order",
    ),
    "own code": (
        entries({"path": "", "type": "custom_st.Transformer"}),
        r"type 'custom_st.Transformer' is code of the checkpoint's own",
    ),
    "a way out": (
        entries({"path": "../x", "type": "sentence_transformers.models.Transformer"}),
        "path '../x' leads out of the checkpoint folder",
    ),
    "no path": (
        entries({"type": "sentence_transformers.models.Transformer"}),
        "path is None, must be a text",
    ),
    "arguments": (
        entries({"path": "", "type": "sentence_transformers.models.Transformer", "kwargs": ["task"]}),
        r"kwargs \['task'\]: arguments of a call cannot be exported",
    ),
    "no modules": (entries(), "must be a list of modules"),
    "a task": (
        sets(BERT, transformer_task="fill-mask"),
        "transformer_task 'fill-mask' only feature-extraction",
    ),
    "messages of another output": (
        sets(
            BERT,
            modality_config={
                "text": {"method": "forward", "method_output_name": "last_hidden_state"},
                "message": {"method": "generate", "method_output_name": "last_hidden_state"},
            },
        ),
        "modality_config .* only texts or messages read by forward",
    ),
    "messages of no form": (
        sets(BERT, modality_config={"message": MESSAGE | {"format": "auto"}}),
        "modality_config.message.format 'auto' must be flat or structured",
    ),
    "messages that a cut breaks": (
        sets(
            BERT,
            modality_config={"message": MESSAGE},
            processing_kwargs={"chat_template": {"restore_suffix": False}},
        ),
        "a cut would take its own tokens: set truncation_side to right .* restore_suffix to true",
    ),
    "another output": (
        sets(
            BERT,
            modality_config={"text": {"method": "get_text_features", "method_output_name": "pooler_output"}},
        ),
        "modality_config .* only texts or messages read by forward",
    ),
    "processing": (
        sets(BERT, processing_kwargs={"text": {"max_length": 9}}),
        "processing_kwargs: text .* set that instead",
    ),
    "multi-vector": (sets(BERT, query_length=32), "query_length 32 belongs to encoders of several vectors"),
    "model arguments": (
        sets(BERT, model_args={"rope_scaling": 2}),
        "model_args: rope_scaling 2 .* write it into config.json",
    ),
    "tokenizer arguments": (
        sets(BERT, tokenizer_args={"add_prefix_space": True}),
        "tokenizer_args: add_prefix_space True .* save the tokenizer",
    ),
    "an unknown setting": (sets(BERT, shine=True), "sentence_bert_config.json: shine True is not known here"),
    "a limit of no number": (
        sets(BERT, max_seq_length="8"),
        "max_seq_length '8' must be a whole number from 1",
    ),
    "casing of no flag": (sets(BERT, do_lower_case=1), "do_lower_case 1 must be true or false"),
    "another model type": (sets(OWN, model_type="SparseEncoder"), "model_type 'SparseEncoder' is no encoder"),
    "a default that is none": (
        sets(OWN, default_prompt_name="q"),
        "default_prompt_name 'q' is none of the prompts",
    ),
    "prompts of no texts": (sets(OWN, prompts={"q": 3}), "prompts.q 3 must be a text"),
    "a similarity that is none": (
        sets(OWN, similarity_fn_name="maxsim"),
        "similarity_fn_name 'maxsim' is none of cosine, dot, euclidean, manhattan, .* takes cosine",
    ),
    "a cut as an argument": (
        sets(BERT, config_kwargs={"truncate_dim": 8}),
        "config_kwargs: truncate_dim 8 is no argument of a model: write it into config_sentence_transformers.json",
    ),
    "a cut of nothing": (sets(OWN, truncate_dim=0), "truncate_dim 0 must be a whole number from 1 on"),
    "an unknown key": (sets(OWN, shine=3), "config_sentence_transformers.json: shine 3 is not known here"),
    "an unknown pooling": (
        sets(POOLING, pooling_mode="attention"),
        "pooling_mode 'attention' cannot be exported",
    ),
    "an unknown pooling key": (sets(POOLING, temperature=2.0), "temperature 2.0 is not known here"),
    "a pooling that is not there": (
        lambda folder: (folder / POOLING).unlink(),
        "1_Pooling' has no config.json",
    ),
    "a pooling of no width": (
        lambda folder: folders.write(folder, POOLING, {}),
        "embedding_dimension None must be",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_by_name(case: str, folder: Path) -> None:
    change, message = REFUSED[case]
    assert read_encoder_folder(folder) is not None
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        read_encoder_folder(folder)


@pytest.mark.parametrize("kind", ["StaticEmbedding", "BoW", "WordEmbeddings", "Router", "MLMTransformer"])
def test_a_folder_without_a_transformer_is_refused_for_that(kind: str, tmp_path: Path) -> None:
    """Not for the config.json or the weights that it does not have, or has of another form."""
    folders.state_modules(tmp_path, (kind, ""), ("Normalize", "1_Normalize"))
    folders.write(tmp_path, "config.json", {"model_type": "model2vec", "architectures": ["StaticModel"]})
    for read in (StatedModel.read, load_checkpoint):
        with pytest.raises(
            CheckpointError, match=f"modules.json has a {kind} module in the place of a Transformer"
        ):
            read(tmp_path)


@pytest.mark.parametrize(("content", "message"), [("[]", "must be an object"), ("{", "not readable JSON")])
def test_a_file_of_another_form_is_named(content: str, message: str, folder: Path) -> None:
    (folder / POOLING).write_text(content)
    with pytest.raises(CheckpointError, match=f"1_Pooling/config.json.*{message}"):
        read_encoder_folder(folder)


def test_settings_that_change_no_embedding_pass(folder: Path) -> None:
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    arguments = {"torch_dtype": "bfloat16", "attn_implementation": "sdpa", "trust_remote_code": True}
    folders.change(folder, BERT, unpad_inputs=False, modality_config={"text": text}, model_args=arguments)
    folders.change(folder, BERT, module_output_name="token_embeddings", transformer_task="feature-extraction")
    folders.change(folder, OWN, __version__={"pytorch": "2"}, model_type="SentenceTransformer", prompts=None)
    read = read_encoder_folder(folder)
    assert read is not None
    assert (read.transformer.max_seq_length, read.truncate_dim, read.prompt(None)) == (None, None, "")


def test_older_names_of_the_transformers_settings_are_read(folder: Path) -> None:
    folders.write(folder, "sentence_roberta_config.json", {"max_seq_length": 77})
    read = read_encoder_folder(folder)
    assert read is not None
    assert read.transformer.max_seq_length == 77


def dense(folder: Path, **config: object) -> Path:
    folders.add_dense(folder, "2_Dense", 32, 24)
    folders.change(folder, "2_Dense/config.json", **config)
    return folder / "2_Dense"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"activation_function": "my.Swish"},
            "activation_function 'my.Swish' cannot be exported: there are Identity",
        ),
        ({"activation_function": "torch.nn.modules.activation.PReLU"}, "PReLU' cannot be exported"),
        (
            {"module_input_name": "token_embeddings"},
            "module_input_name 'token_embeddings' must be sentence_embedding",
        ),
        ({"out_features": None}, "must say in_features and out_features"),
        ({"scale": 2}, "scale 2 is not known here"),
    ],
)
def test_a_dense_layer_that_a_graph_would_lack_is_refused(
    config: dict[str, object], message: str, folder: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        dense_layer(dense(folder, **config))


def test_dense_weights_are_those_of_the_config_in_safetensors(folder: Path) -> None:
    place = dense(folder)
    assert {name: tuple(w.shape) for name, w in dense_weights(place, dense_layer(place)).items()} == {
        "linear.weight": (24, 32),
        "linear.bias": (24,),
    }
    folders.change(folder, "2_Dense/config.json", bias=False)
    with pytest.raises(CheckpointError, match=r"model.safetensors holds .*linear.bias.*config.json asks for"):
        dense_weights(place, dense_layer(place))
    (place / "model.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError, match="is damaged"):
        dense_weights(place, dense_layer(place))
    (place / "model.safetensors").unlink()
    torch.save({}, place / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError, match="pickles are never loaded: load the model with sentence-transformers"
    ):
        dense_weights(place, dense_layer(place))


def test_the_tokens_of_a_cross_encoder_are_read(folder: Path) -> None:
    assert stated_logit_score(folder) is None
    folders.state_modules(folder, ("Transformer", ""), ("LogitScore", "1_LogitScore"))
    folders.write(folder, "1_LogitScore/config.json", {"true_token_id": 9, "false_token_id": 4})
    assert stated_logit_score(folder) == LogitScore(9, 4)
    folders.write(
        folder, "1_LogitScore/config.json", {"true_token_id": 0, "module_input_name": "causal_logits"}
    )
    score = stated_logit_score(folder)
    assert score is not None
    assert score.ids == (0,)
    folders.write(folder, "1_LogitScore/config.json", {"false_token_id": 4})
    with pytest.raises(CheckpointError, match="true_token_id None must be the id of the token that says yes"):
        stated_logit_score(folder)


def test_the_transformer_lies_where_modules_json_says(folder: Path, tmp_path: Path) -> None:
    assert transformer_folder(tmp_path) == tmp_path
    folders.state_modules(folder, ("Transformer", "0_Transformer"), PAIR[1])
    assert transformer_folder(folder) == folder / "0_Transformer"
