"""The main job, end to end: crawl, clean, tokenise, train, tune, evaluate, report (see __main__.py)."""
