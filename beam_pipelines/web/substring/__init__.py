"""Repeated spans of a corpus: found exactly, by a suffix array or by hashed windows, and cut out of the documents."""
