"""Well-posed, balanced instruction examples from cleaned documentation pages (see build_examples)."""
