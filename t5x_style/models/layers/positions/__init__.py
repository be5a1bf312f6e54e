"""Position encodings, one file a kind."""
