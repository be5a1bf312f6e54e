"""Weights in and out of Hugging Face: one map of names and shapes a family."""
