"""The cross-encoder's part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel, speaking_folders
from rankport.exporters.kinds.cross_encoder.checks import check_cross_encoder
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.cross_encoder.plan import cross_encoder_prompt, plan_cross_encoder
from rankport.exporters.kinds.cross_encoder.proof.measure import measure_cross_encoder
from rankport.exporters.kinds.work import ExportWork
from rankport.exporters.options.presets import MONO_T5
from rankport.exporters.options.stated_prompt import stated_preset


def _claims(model: StatedModel) -> bool:
    """Claims encoders with a classification head, and encoder-decoders that are known to score by a token."""
    if model.head == "seq2seq_lm_head":
        return stated_preset(speaking_folders(model.path, model.base)) == MONO_T5
    return model.encoder_head is not None and not model.makes_embeddings


WORK: ExportWork[CrossEncoderOptions] = ExportWork(
    claims=_claims,
    head="own",
    check=check_cross_encoder,
    prompt=cross_encoder_prompt,
    plan=plan_cross_encoder,
    measure=measure_cross_encoder,
    finds_loud=True,
)
