"""Sequences that are being written on a device: KV and states, a row each. Only a generator's backend imports it."""
