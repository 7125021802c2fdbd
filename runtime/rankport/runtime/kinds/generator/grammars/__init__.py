"""Texts of a form: grammars of llguidance, tried in a process that can be ended before they are compiled here."""
