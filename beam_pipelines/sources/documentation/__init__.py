"""This machine's Python documentation, recorded as a small crawl (WARC files) for the quickstart."""
