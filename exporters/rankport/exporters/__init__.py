"""Checkpoint -> proven bundle: `export` and `verify` own the order, `steps` the steps, `kinds` what differs.

The only source root that imports torch. The SDK and the command line import it.
"""

import rankport.runtime  # noqa: F401  # first: it turns off ONNX Runtime's telemetry, which packages here import
