"""The parts of cache_tasks: finding Tasks, planning their steps, writing shards, writing manifests."""
