"""Learned sparse encoders: what their folders say, and the module they make. No graphs, no bundles."""
