"""What commands show and write: tables, progress, JSON, HTML. Knows no flag and no command."""
