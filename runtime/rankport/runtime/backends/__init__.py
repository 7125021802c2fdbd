"""Batches of tokens -> results, on a device. `contract` is the seam, `choice` picks.

Knows bundles, no kind, no request and no queue. Scheduling and kinds import it.
"""
