"""Writes a run's report again: `python -m beam_pipelines.web.report OUTPUT`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import logging

from beam_pipelines.files import storage
from beam_pipelines.web.report import write_report
from t5x_style import command_line
from t5x_style.errors import UserError, run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = command_line.parser("beam_pipelines.web.report", __doc__, allow_abbrev=False)
    parser.add_argument("output", metavar="OUTPUT", help="the folder that clean_web wrote to")
    output = parser.parse_args(argv).output
    for name in ("stats.json", "work/samples.json", "work/configuration.json"):
        if not storage.exists(storage.join(output, name)):
            raise UserError(f"{output}: no {name}; give the --output of a finished clean_web run")
    written = write_report(output)
    logging.info("%s/report.html %s", output, "written" if written else "shows this run already")


if __name__ == "__main__":
    sys.exit(main())
