"""The cross-encoder's part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.cross_encoder.plan import cross_encoder_prompt, plan_cross_encoder
from rankport.exporters.kinds.cross_encoder.proof.measure import measure_cross_encoder
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    return model.encoder_head is not None and not model.makes_embeddings


WORK: ExportWork[CrossEncoderOptions] = ExportWork(
    claims=_claims,
    head="own",
    prompt=cross_encoder_prompt,
    plan=plan_cross_encoder,
    measure=measure_cross_encoder,
)
