"""The classifier's part of an export."""

from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.classifier.checks import check_classifier
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.classifier.plan import plan_classifier
from rankport.exporters.kinds.classifier.prompt import classifier_prompt
from rankport.exporters.kinds.classifier.proof.measure import measure_classifier
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    """Claims heads of several labels, but for CrossEncoder's, and pooled states with labels of their own."""
    if model.makes_embeddings:
        return model.has_class_labels
    if model.encoder_head is None or model.outputs < 2:
        return False
    return not CrossEncoderFolder.read(model.path).is_own


WORK: ExportWork[ClassifierOptions] = ExportWork(
    claims=_claims,
    head="stated",
    check=check_classifier,
    prompt=classifier_prompt,
    plan=plan_classifier,
    measure=measure_classifier,
    finds_loud=True,
)
