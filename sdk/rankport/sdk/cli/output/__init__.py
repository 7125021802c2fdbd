"""Output of commands: tables, progress, JSON, HTML. Knows no flag and no command."""
