"""Models whose layers Control LLM expanded (arXiv 2501.10979): what a config says of them, and their layers."""
