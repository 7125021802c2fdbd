"""The ranker's part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.ranker.calibrate import calibrate_ranker
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.plan import check_ranker_prompt, plan_ranker, ranker_prompt
from rankport.exporters.kinds.ranker.proof.measure import measure_ranker
from rankport.exporters.kinds.ranker.request_form import stated_form
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    return model.head != "none"


WORK: ExportWork[RankerOptions] = ExportWork(
    claims=_claims,
    headless=False,
    check=check_ranker_prompt,
    prompt=ranker_prompt,
    plan=plan_ranker,
    measure=measure_ranker,
    calibrate=calibrate_ranker,
    request_form=stated_form,
)
