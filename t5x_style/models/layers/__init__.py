"""Layers: one small file each, built from the specs of models/specs/."""
