"""The two towers' part of an export."""

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.two_tower.options import TwoTowerOptions
from rankport.exporters.kinds.two_tower.plan import plan_two_tower
from rankport.exporters.kinds.two_tower.prompt import check_two_tower_prompt, two_tower_prompt
from rankport.exporters.kinds.two_tower.proof.measure import measure_two_tower
from rankport.exporters.kinds.work import ExportWork


def _claims(model: StatedModel) -> bool:
    """Claims what says that it is two towers, of late interaction and sparse encoders too."""
    return model.head == "towers"


WORK: ExportWork[TwoTowerOptions] = ExportWork(
    claims=_claims,
    head="towers",
    check=check_two_tower_prompt,
    prompt=two_tower_prompt,
    plan=plan_two_tower,
    measure=measure_two_tower,
)
