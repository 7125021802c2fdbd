"""Values as messages of the wire, and messages as values: what both sides of a call share. Knows no bundle."""
