"""Rankers: decoders over a shared prefix, with label or class read-out. The table imports `kind`, an export `work`."""
