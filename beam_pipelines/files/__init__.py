"""Files wherever they lie: local, gs://, s3:// and https://, inputs by pattern, lists with an entry a line."""
