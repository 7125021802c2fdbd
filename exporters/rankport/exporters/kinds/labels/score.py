"""Score of a model: which label it speaks for, and what is computed of the logits for it.

Unless told otherwise, a score is what transformers' text classification computes: softmax of labels that exclude each
other, sigmoid of a single one or of labels that do not, the output itself of a regression. A CrossEncoder's folder says
otherwise by its activation.
"""

from collections.abc import Sequence

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder, ScoreKind
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Labels, Score

_PLAIN = ("relevant", "yes", "true", "positive", "entailment")
_PLAIN_OF_TWO = ("label_1", "1")


def resolve_score(checkpoint: Checkpoint, wanted: ScoreKind | None, labels: Labels) -> Score:
    """Chooses kind and transform of the score: as `wanted`, as a CrossEncoder's activation, or by `problem_type`."""
    problem, compete = None, len(labels.names) > 1
    stated = CrossEncoderFolder.read(checkpoint.path).score
    if labels.source == "classification_head":
        problem = getattr(checkpoint.model.config, "problem_type", None)
        compete = compete and problem != "regression" and outputs_compete(checkpoint)
    kind = wanted or stated or ("logit" if problem == "regression" else "probability")
    if kind == "probability":
        return Score(kind=kind, transform="softmax" if compete else "sigmoid")
    return Score(kind="logit", transform="log-odds" if compete else "none")


def outputs_compete(checkpoint: Checkpoint) -> bool:
    """Tells whether several outputs of a classification head exclude each other: unless something says otherwise.

    `problem_type` of config.json may, or a sigmoid as the activation of a CrossEncoder, which has it of each output.
    """
    problem = getattr(checkpoint.model.config, "problem_type", None)
    activated = CrossEncoderFolder.read(checkpoint.path).score
    return problem != "multi_label_classification" and activated != "probability"


def positive_of_tokens(names: Sequence[str], ids: Sequence[int], wanted: str | None) -> int:
    """Finds the positive label of an LM head: the one `wanted`, else the first. Its index.

    Raises:
        InvalidRequest: `wanted` is none of the labels, or the first is chosen while another looks positive.
    """
    if wanted is not None:
        return _wanted(names, ids, wanted)
    plain = _plain(names, _PLAIN)
    if plain and 0 not in plain:
        raise InvalidRequest(
            f"labels {', '.join(names)}: the first is the positive one, and {names[plain[0]]!r} looks so: say which "
            f"with --positive, for example --positive {names[plain[0]]}"
        )
    return 0


def positive_of_head(names: Sequence[str], wanted: str | None) -> int:
    """Finds the positive label of a classification head: the one `wanted`, the only one, or one plainly named so.

    Raises:
        InvalidRequest: `wanted` is none of the labels, or none of several, or more than one, is plainly positive.
    """
    if wanted is not None:
        return _wanted(names, range(len(names)), wanted)
    if len(names) == 1:
        return 0
    plain = _plain(names, _PLAIN) or (_plain(names, _PLAIN_OF_TWO) if len(names) == 2 else [])
    if len(plain) == 1:
        return plain[0]
    raise InvalidRequest(
        f"the classification head has the labels {', '.join(names)}, and {'several' if plain else 'none'} of them are "
        f"plainly the positive one: say which with --positive, for example --positive {names[-1]}"
    )


def _wanted(names: Sequence[str], ids: Sequence[int], wanted: str) -> int:
    """Finds a label by its name, then by its name in any case and without blanks around it, then by its id."""
    word = str(wanted)
    if word in names:
        return names.index(word)
    folded = [name.strip().casefold() for name in names]
    if folded.count(word.strip().casefold()) == 1:
        return folded.index(word.strip().casefold())
    if word.isdecimal() and int(word) in ids:
        return ids.index(int(word))
    raise InvalidRequest(
        f"--positive {word!r} is none of the labels {', '.join(names)}, nor of their ids "
        f"{', '.join(map(str, ids))}"
    )


def _plain(names: Sequence[str], words: Sequence[str]) -> list[int]:
    return [index for index, name in enumerate(names) if name.strip().casefold() in words]
