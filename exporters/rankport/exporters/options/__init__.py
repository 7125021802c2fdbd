"""Everything that an export can be asked for, and what it takes where nothing was said. Loads no model."""
