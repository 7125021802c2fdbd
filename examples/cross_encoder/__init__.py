"""A cross-encoder trained on ESCO job titles, exported, proven, and compared with the demo's rankers."""
