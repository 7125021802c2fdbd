"""Memory of a device that outlives a pass: KV of prefixes, rows of tables, sequences that are written."""
