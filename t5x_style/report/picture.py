"""A picture of a report's first screen: python -m t5x_style.report.picture --quickstart DIR --output FILE.png.

Chromium or Chrome renders the page; nothing is drawn by hand. `make picture` writes the README's picture in this way.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from t5x_style import command_line
from t5x_style.errors import UserError, run_main

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH, HEIGHT = 1040, 1016  # of the page, in CSS pixels: the key figures and the funnel
SCALE = 1.5  # pixels a CSS pixel: sharp where a README shows it smaller
MARGIN = 200  # a headless window's page can be shorter than the window
COLORS = 256
TIMEOUT = 120  # seconds; a start takes about two


def take(report: str | Path, output: str | Path, *, browser: str | None = None) -> Path:
    """Writes the top of an HTML report as a PNG file of 256 colours.

    Args:
      report: the HTML file.
      output: the picture; its folder is made.
      browser: program; None: the first of BROWSERS that is installed.

    Raises:
      UserError: there is no report or no browser, or the browser fails.
    """
    from PIL import Image

    report, output = Path(report), Path(output)
    if not report.is_file():
        raise UserError(f"{report} is not there; make it with python -m t5x_style.report")
    program = browser or find_browser()
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        command = [
            program,
            "--headless",
            "--no-sandbox",  # the page is our own file; in containers the sandbox cannot start
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
            f"--force-device-scale-factor={SCALE}",
            f"--window-size={WIDTH},{HEIGHT + MARGIN}",
            f"--screenshot={shot}",
            report.resolve().as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{program}: {error}") from error
        if not shot.is_file():
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise UserError(f"{program} made no picture of {report}: {lines[-1]}")
        with Image.open(shot) as image:
            size = (min(image.width, round(WIDTH * SCALE)), min(image.height, round(HEIGHT * SCALE)))
            picture = image.convert("RGB").crop((0, 0, *size)).quantize(COLORS, dither=Image.Dither.NONE)
        output.parent.mkdir(parents=True, exist_ok=True)
        picture.save(output, format="PNG", optimize=True)
    return output


def find_browser() -> str:
    """The first of BROWSERS on the path.

    Raises:
      UserError: there is none.
    """
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    raise UserError("no Chromium or Chrome was found to render the report; install chromium, or give --browser PROGRAM")


def _main(argv: Sequence[str]) -> int:
    parser = command_line.parser("t5x_style.report.picture", __doc__)
    parser.add_argument("--quickstart", required=True, help="folder of a quickstart")
    parser.add_argument("--output", required=True, help="the PNG file")
    parser.add_argument("--browser", help="program; default: Chromium or Chrome, where it is installed")
    arguments = parser.parse_args(argv)
    browser = arguments.browser or find_browser()  # before the report is written

    from t5x_style.report import write_report

    with tempfile.TemporaryDirectory() as folder:
        report = write_report(quickstart=arguments.quickstart, output=Path(folder, "report.html"))
        picture = take(report, arguments.output, browser=browser)
    logging.info("picture: %s, %d kB", picture, picture.stat().st_size // 1000)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
