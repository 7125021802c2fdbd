"""Checkpoint -> proven bundle. The only source root that imports torch; the SDK imports it."""
