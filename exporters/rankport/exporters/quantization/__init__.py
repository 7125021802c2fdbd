"""Low bits: rounding and calibration of a model's weights, and the kernels that graphs multiply them by."""
