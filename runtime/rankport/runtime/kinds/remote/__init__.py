"""Engines in a process of their own, as the models of another process have them. Knows no kind."""
