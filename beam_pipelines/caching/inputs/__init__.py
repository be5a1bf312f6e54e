"""JSONL, text and Parquet files become token shards without seqio or TensorFlow (docs/cache_tasks.md)."""
