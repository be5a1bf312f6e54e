"""Crawled pages to clean documents: `python -m beam_pipelines.clean_web --input GLOB --output DIR --gin_file FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from absl import logging

from beam_pipelines.files import inputs, storage
from beam_pipelines.jobs import runners
from t5x_style import command_line, config
from t5x_style.errors import UserError, run_main
from t5x_style.files import require_writable


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser(
        "beam_pipelines.clean_web", __doc__, allow_abbrev=False, epilog="Other options go to Beam."
    )
    inputs.add_arguments(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="documents/, rejected/, stats.json, report.html, work/"
    )
    config.add_arguments(parser)
    runners.add_arguments(parser)
    return parser


def _main(argv: Sequence[str]) -> None:
    from beam_pipelines.web.gin_names import NAMES
    from beam_pipelines.web.pipeline import clean
    from beam_pipelines.web.recipe import CleanWeb

    parser = _parser()
    own, beam_options = runners.split_arguments(parser, argv)
    arguments, bindings = config.parse_arguments(parser, own)
    if not arguments.gin_file:
        raise UserError("--gin_file is missing; gin/web/refinedweb.gin is one to start from")
    recipe = config.load(CleanWeb, arguments.gin_file, bindings, NAMES).root
    paths = inputs.resolve(arguments)
    if storage.is_local(arguments.output):
        require_writable(arguments.output, "--output")
    with runners.Runner(arguments.runner, arguments.workers, beam_options) as runner:
        stats = clean(recipe, paths, arguments.output, runner)
    for stage in stats["stages"]:
        lost = ", ".join(f"{reason} {count}" for reason, count in stage["rejected"].items())
        logging.info("%-20s %9d -> %9d  %s", stage["name"], stage["in"], stage["kept"], lost)
        if stage["edits"]:
            edits = ", ".join(f"{kind} {count}" for kind, count in stage["edits"].items())
            logging.info("%-20s changed: %s", "", edits)
    if not stats["stages"][0]["kept"]:
        logging.warning("no page could be read from %d files; %s/rejected says why", len(paths), arguments.output)
    documents, report = (storage.join(arguments.output, name) for name in ("documents", "report.html"))
    logging.info("%d documents in %s; report: %s", stats["documents"], documents, report)


if __name__ == "__main__":
    sys.exit(main())
