"""seqio Tasks and Mixtures: the only package that knows data sets and templates (see docs/tasks.md)."""
