"""Tensors of Hugging Face folders: where each goes, how it lies, reading and writing files of them."""
