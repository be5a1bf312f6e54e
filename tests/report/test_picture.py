"""The picture of a report: what is asked of the browser, what is kept of its picture, and what a failure says."""

import stat
import sys

import pytest
from PIL import Image

from t5x_style.errors import UserError
from t5x_style.report import picture

BROWSER = """#!{python}
import json, sys
from PIL import Image
json.dump(sys.argv[1:], open({log!r}, "w"))
(path,) = [argument.partition("=")[2] for argument in sys.argv if argument.startswith("--screenshot=")]
Image.effect_noise((1560, 1900), 90).convert("RGB").save(path)
"""


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("<!doctype html><h1>Report</h1>")
    return path


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_top_is_cut_out_in_few_colours(tmp_path, report):
    log = tmp_path / "arguments.json"
    browser = program(tmp_path / "browser", BROWSER.format(python=sys.executable, log=str(log)))
    output = picture.take(report, tmp_path / "images" / "report.png", browser=browser)
    with Image.open(output) as image:
        assert image.size == (picture.WIDTH * 1.5, picture.HEIGHT * 1.5)
        assert image.mode == "P"
    arguments = log.read_text()
    assert report.as_uri() in arguments
    assert "--headless" in arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho 'no display' >&2\nexit 3\n", "made no picture of .*report.html: no display"),
        ("#!/bin/sh\nexit 3\n", "exit code 3"),
        ("#!/nowhere/sh\n", "browser: .*No such file"),
    ],
)
def test_a_browser_that_fails_is_named(tmp_path, report, text, message):
    with pytest.raises(UserError, match=message):
        picture.take(report, tmp_path / "report.png", browser=program(tmp_path / "browser", text))
    assert not (tmp_path / "report.png").exists()


def test_a_missing_report_and_a_missing_browser_are_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match=r"python -m t5x_style\.report"):
        picture.take(tmp_path / "report.html", tmp_path / "report.png", browser="chromium")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert picture.main(["--quickstart", str(tmp_path), "--output", str(tmp_path / "report.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no Chromium or Chrome was found")


def test_a_quickstarts_report_is_rendered(tmp_path, quickstart):
    """With a real browser, where there is one."""
    try:
        picture.find_browser()
    except UserError as error:
        pytest.skip(str(error))
    output = tmp_path / "report.png"
    assert picture.main(["--quickstart", str(quickstart), "--output", str(output)]) == 0
    assert output.stat().st_size < 300_000
    with Image.open(output) as image:
        assert image.size == (picture.WIDTH * picture.SCALE, picture.HEIGHT * picture.SCALE)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
