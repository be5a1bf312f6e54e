"""Tokenizers of Hugging Face folders, in every form that they come in."""
