"""Low bits: rounding and calibration of a model's weights, and the kernels that graphs multiply them by.

Knows no form of checkpoint and no kind; both import it.
"""
