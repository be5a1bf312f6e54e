"""Evaluation of MODEL_DIRs: seqio Tasks' own metrics, and perplexity; the only package here that uses seqio."""
