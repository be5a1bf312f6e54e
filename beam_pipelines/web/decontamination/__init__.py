"""Taking out what evaluation sets contain."""
