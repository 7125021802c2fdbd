"""JSON files of a checkpoint, field by field: honoured, harmless, or refused by name. Reads no tensors."""
