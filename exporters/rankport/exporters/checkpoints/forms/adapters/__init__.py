"""Adapters of PEFT (LoRA and its kin): what their folders say, and how they are merged into their bases."""
