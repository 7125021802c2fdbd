"""The one type of the driver's bindings that rankport uses."""

import ctypes

cuuint64_t = ctypes.c_uint64
