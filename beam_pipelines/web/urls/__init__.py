"""Which addresses are wanted: blocklists, words, curated sources, one form of every address."""
