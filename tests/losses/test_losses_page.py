"""docs/losses.md: its code runs and gives what its comments say, its tables name every kind."""

import pathlib
import re
from typing import get_args

import pytest

from t5x_style.losses import distillation, dpo
from t5x_style.models.specs.head_specs import TaskKind
from tests.losses import checks

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "losses.md"
pytestmark = pytest.mark.usefixtures("quick_to_compile")


def test_the_code_of_the_page_runs(monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.setattr("t5x_style.models.build", checks.model)  # compiles nothing
    names: dict = {}
    exec(code, names)
    assert names["loss"].weights(names["batch"]) == {"topic": 2, "router": 1}
    assert set(names["sums"].losses) == {"topic"}
    read = set(names["loss"].reads({"policy": names["config"]}))
    assert read - set(names["batch"]) == {"encoder_token_types"}


def test_every_kind_is_in_a_table():
    table = "".join(line for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    kinds = {*get_args(TaskKind), *get_args(distillation.Divergence), *get_args(dpo.Kind)} - {"reward"}
    assert not [kind for kind in kinds if f"`{kind}`" not in table]
