"""Steps that export and verify are made of, each once; `stage` takes those that both take, in their order.

Owns what a step does for any kind, which hands in an `ExportWork` for the rest. `export` and `verify` own the order.
"""
