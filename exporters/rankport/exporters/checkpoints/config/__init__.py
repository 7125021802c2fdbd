"""What the JSON files of a checkpoint say, field by field: honoured, harmless, or refused by name. Reads no tensors."""
