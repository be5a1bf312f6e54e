"""Stages that keep one of several equal or similar documents."""
