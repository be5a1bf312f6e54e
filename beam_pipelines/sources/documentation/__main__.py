"""Records this machine's Python documentation as WARC files: `python -m beam_pipelines.sources.documentation`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

from absl import logging

from beam_pipelines.sources.documentation.crawl import MIN_PAGES, crawl
from beam_pipelines.sources.documentation.plan import Settings
from t5x_style import command_line
from t5x_style.errors import UserError, run_main


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    defaults = Settings()
    parser = command_line.parser("beam_pipelines.sources.documentation", __doc__)
    parser.add_argument("--output", required=True, help="folder; the crawl goes to OUTPUT/crawl")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes")
    parser.add_argument("--packages", default="", help="comma list of top-level packages; default: all")
    parser.add_argument("--max_pages", type=int, default=0, help="a sample of at most this many pages; 0: all")
    parser.add_argument("--package_pages", type=int, default=defaults.package_pages, help="object pages per package")
    parser.add_argument("--package_modules", type=int, default=defaults.package_modules, help="pydoc pages per package")
    parser.add_argument("--min_pages", type=int, default=MIN_PAGES, help="fewer pages in all are an error")
    parser.add_argument("--module_timeout", type=float, default=defaults.module_timeout, help="seconds per module")
    return parser.parse_args(argv)


def run(argv: Sequence[str]) -> None:
    """Parses the command line and crawls."""
    arguments = parse_arguments(argv)
    for name in ("workers", "package_pages", "package_modules", "module_timeout"):
        if getattr(arguments, name) <= 0:
            raise UserError(f"--{name} is {getattr(arguments, name)}; it must be above 0")
    if arguments.max_pages < 0:
        raise UserError(f"--max_pages is {arguments.max_pages}; it must be 0 (all pages) or above")
    logging.set_verbosity(logging.INFO)
    started = time.monotonic()
    settings = Settings(
        packages=tuple(sorted(filter(None, arguments.packages.split(",")))),
        package_pages=arguments.package_pages,
        package_modules=arguments.package_modules,
        max_pages=arguments.max_pages,
        module_timeout=arguments.module_timeout,
    )
    report = crawl(arguments.output, settings, arguments.workers, arguments.min_pages)
    seconds = time.monotonic() - started
    logging.info("crawl: %d pages %s in %.1f s", report["total_pages"], report["pages"], seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
