"""The thread that owns a device, its queue, the plan of its passes and the prefix cache.

Knows no model kind: what a pass computes is the kind's. Kinds import it.
"""
