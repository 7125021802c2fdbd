"""The ranker's part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.ranker.calibrate import calibrate_ranker
from rankport.exporters.kinds.ranker.decoders import is_decoder
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.plan import check_ranker, plan_ranker, ranker_prompt
from rankport.exporters.kinds.ranker.proof.measure import measure_ranker
from rankport.exporters.kinds.ranker.request_form import stated_form
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    return is_decoder(model)


WORK: ExportWork[RankerOptions] = ExportWork(
    claims=_claims,
    head="labelled",
    check=check_ranker,
    prompt=ranker_prompt,
    plan=plan_ranker,
    measure=measure_ranker,
    calibrate=calibrate_ranker,
    request_form=stated_form,
)
