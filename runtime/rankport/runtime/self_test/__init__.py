"""Self-test: a small ranker built, run and compared on this machine, each step in a process of its own.

What runs and compares is `backends.trial`; here are the steps, their processes and what each found.
"""
