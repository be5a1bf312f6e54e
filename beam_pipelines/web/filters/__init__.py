"""Stages that keep or drop one document by its quality."""
