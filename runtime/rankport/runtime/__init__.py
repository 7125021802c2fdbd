"""Runs and serves bundles, without torch. Exporters and the SDK import it; it imports protos alone."""
