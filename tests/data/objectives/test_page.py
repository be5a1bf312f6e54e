"""docs/objectives.md: its code runs and prints what it says, and its table names every objective and gin file."""

import contextlib
import inspect
import io
import pathlib
import re

from t5x_style import config
from t5x_style.data import objectives

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "objectives.md").read_text(encoding="utf-8")


def test_the_code_runs():
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(first, {})
    assert printed.getvalue() == re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1]
    found = {}
    exec(second, found)
    assert found["config"].lengths == {"encoder": 512, "decoder": 114}


def test_the_table_names_all():
    kinds = {
        name
        for name, kind in inspect.getmembers(objectives, inspect.isclass)
        if issubclass(kind, objectives.Objective) and kind is not objectives.Objective
    }
    assert set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) == kinds
    files = {path.name for path in (config.gin_folders()[0] / "objectives").glob("*.gin")}
    assert set(re.findall(r"`(\w+\.gin)`", PAGE)) == files
