"""docs/task_heads.md: its code runs, and its table names every kind of head."""

import pathlib
import re
from typing import get_args

from t5x_style.models.specs.head_specs import TaskKind

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "task_heads.md"


def test_the_code_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["model"].tasks["nli"].logits(names["hidden"]).shape == (1, 3)


def test_every_kind_is_in_the_table():
    table = "".join(line for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    assert not [kind for kind in get_args(TaskKind) if f"`{kind}`" not in table]
