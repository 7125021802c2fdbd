"""Looks at a server over HTTP: health, models, metrics, the pages. What is no work, and is answered always."""
