"""Cleaning of crawled pages: one small file a stage, pure functions inside, Beam outside."""
