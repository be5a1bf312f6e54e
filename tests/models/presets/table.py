"""The table of all gin models in docs/model_presets.md, from the files themselves.

Command: python -m tests.models.presets.table (writes it into the page; a test says when that is due)
"""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs" / "model_presets.md"
_BEGIN, _END = "<!-- table: python -m tests.models.presets.table -->\n", "<!-- end of table -->\n"


class GinModel(NamedTuple):
    """What a file in gin/models says of itself: its first line, its preset and size, the parameters it states."""

    path: pathlib.Path
    title: str
    preset: str
    size: str | None
    parameters: int | None


def read(path: pathlib.Path) -> GinModel:
    """Reads the header and the bindings as text."""
    text = path.read_text()
    preset = re.search(r"^TrainRun\.model = @(\w+)\(\)", text, re.MULTILINE)
    assert preset is not None, f"{path} sets no TrainRun.model"
    size = re.search(rf"^{re.escape(preset[1])}\.size = ['\"](.+)['\"]", text, re.MULTILINE)
    stated = re.search(r"^# Parameters: +([\d,]+)$", text, re.MULTILINE)
    parameters = None if stated is None else int(stated[1].replace(",", ""))
    title = text.splitlines()[0].removeprefix("# ").rstrip(".")
    return GinModel(path, title, preset[1], None if size is None else size[1], parameters)


def gin_models() -> list[GinModel]:
    """Every file of gin/models, by preset and then by parameters."""
    found = [read(path) for path in (ROOT / "gin" / "models").glob("*.gin")]
    return sorted(found, key=lambda model: (model.preset, model.parameters or 0, model.path.name))


def table() -> str:
    """The table as Markdown."""
    rows = ["| file in gin/models | model | preset | parameters |", "| --- | --- | --- | ---: |"]
    for model in gin_models():
        call = f"{model.preset}({'' if model.size is None else repr(model.size)})"
        count = "" if model.parameters is None else f"{model.parameters:,}"
        rows.append(f"| `{model.path.stem}` | {model.title} | `{call}` | {count} |")
    return "\n".join(rows) + "\n"


def written(page: str) -> str:
    """`page` with the table of now."""
    before, rest = page.split(_BEGIN)
    return before + _BEGIN + table() + _END + rest.split(_END)[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
