"""Training tokenizers from cleaned documents."""
