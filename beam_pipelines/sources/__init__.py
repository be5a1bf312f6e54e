"""Where recorded pages come from when no crawl is given: one package per source."""
