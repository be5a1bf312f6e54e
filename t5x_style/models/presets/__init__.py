"""Presets: one file a family, each a function from published names to a configuration."""
