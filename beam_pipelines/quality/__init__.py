"""Quality models: a fastText classifier, an n-gram language model with perplexity buckets, and their training."""
