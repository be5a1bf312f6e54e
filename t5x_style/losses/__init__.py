"""Losses over hidden states and a head; vocabulary scores exist only a chunk at a time."""
