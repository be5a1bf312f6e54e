"""t5x_style: language models in JAX from web crawl to aligned model (see docs/architecture.md)."""

__version__ = "0.1.0"
