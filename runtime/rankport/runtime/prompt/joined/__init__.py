"""Texts that are one for the tokenizer with the prompt around them: where they join, and how they are cut."""
