"""The files of real requests, read whole before any model is loaded."""

from pathlib import Path

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.options.check_requests import RequestContents
from rankport.exporters.options.judged_texts import read_judged_texts
from rankport.exporters.options.options import option_names
from rankport.exporters.options.reference_file import read_reference
from rankport.exporters.options.request_files import RequestFiles
from rankport.exporters.options.requests_file import read_judged, read_requests
from rankport.protos.errors import InvalidRequest


def read_contents(files: RequestFiles, kind: ExportKind) -> RequestContents:
    """Reads what is given. Raises InvalidRequest naming every bad line, or a file that the kind has no use for."""
    _require_use(files, kind)
    texts = kind.judged == "texts"
    judged = [] if files.judged is None or texts else read_judged(Path(files.judged))
    judged_texts = [] if files.judged is None or not texts else read_judged_texts(Path(files.judged))
    calibration = [] if files.calibration is None else read_requests(Path(files.calibration))
    reference = None
    if files.reference is not None:
        assert kind.reference is not None
        reference = read_reference(Path(files.reference), kind.reference, files.reference_transform)
    return RequestContents(judged, calibration, reference, judged_texts)


def _require_use(files: RequestFiles, kind: ExportKind) -> None:
    for name in ("judged", "calibration", "store"):
        if getattr(files, name) is not None and name not in option_names(kind.options):
            raise InvalidRequest(f"--{name}: a model of kind {kind.name} has no use for it: leave it out")
    if files.reference is not None and kind.reference is None:
        raise InvalidRequest(
            f"--reference: nothing is compared with a model of kind {kind.name}: leave it out"
        )
