"""Beam pipelines: web pages to documents, documents to tokenizers and token shards. Beam stays at the edge."""
