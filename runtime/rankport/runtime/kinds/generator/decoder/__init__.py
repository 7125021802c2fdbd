"""Decoders that write: texts, searches over tries and scored items, whose passes take turns."""
