"""Runs and serves bundles, without torch. Exporters and the SDK import it; it imports protos alone.

ONNX Runtime from 1.31 on keeps a database of what it does in the home folder and sends it to its maker, on Linux too,
unless it is told not to before it is imported. It is told so here; `ORT_DISABLE_TELEMETRY=0` leaves it on.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
