"""Writes the report of a run: python -m t5x_style.report --quickstart DIR [--output FILE.html].

Or of one MODEL_DIR: python -m t5x_style.report --model MODEL_DIR. The default output is MODEL_DIR/report.html.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import logging

from t5x_style import command_line
from t5x_style.errors import run_main


def _main(argv: Sequence[str]) -> int:
    parser = command_line.parser("t5x_style.report", __doc__)
    parser.add_argument("--quickstart", help="folder of a quickstart")
    parser.add_argument("--model", help="MODEL_DIR; default: the quickstart's tuned model")
    parser.add_argument("--evaluation", help="results of t5x_style.evaluate; default: evaluation.json in the folders")
    parser.add_argument("--output", help="the HTML file; default: MODEL_DIR/report.html")
    arguments = parser.parse_args(argv)

    from t5x_style.report import write_report

    path = write_report(
        arguments.model, quickstart=arguments.quickstart, evaluation=arguments.evaluation, output=arguments.output
    )
    logging.info("report: %s", path)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
