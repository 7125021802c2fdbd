"""GTI: semantic IDs as new tokens of a language model, grounded in text, tuned on histories, searched by a trie."""
