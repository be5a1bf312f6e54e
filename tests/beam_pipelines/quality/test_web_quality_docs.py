"""The commands and bindings of docs/web_quality.md work, in their order."""

import gzip
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from beam_pipelines.web import parquet
from beam_pipelines.web.document import Document
from beam_pipelines.web.gin_names import NAMES
from beam_pipelines.web.recipe import CleanWeb
from t5x_style import config

PAGE = (Path(__file__).parents[3] / "docs" / "web_quality.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    python -m (beam_pipelines\.\w+) (.*)$", PAGE, re.MULTILINE)
BINDINGS = re.findall(r"^    ([A-Z]\w+\.\w+ = .*)$", PAGE, re.MULTILINE)


def write_documents(path, pattern, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file, parquet.Table(file, parquet.DOCUMENTS) as table:
        for number in range(count):
            text = pattern.format(number) * 3
            table.add(parquet.document_row(Document(f"{number:032x}", text, "", "", "", "en", 1.0, "{}")), len(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page assumes: documents and evaluation sets."""
    path = tmp_path_factory.mktemp("docs")
    write_documents(path / "cited" / "a.parquet", "The {0}th treaty was signed by scholars of the old theory.\n", 60)
    write_documents(path / "random" / "a.parquet", "Buy {0} cheap things now, free shipping to your cart!\n", 60)
    write_documents(path / "web" / "documents" / "a.parquet", "The {0}th treaty is cheap; add it to your cart.\n", 60)
    (path / "eval").mkdir()
    example = {"question": "How many of the 17 geese came back before the first snow?", "answer": "1 < 17"}
    with gzip.open(path / "eval" / "gsm8k_test.jsonl.gz", "wt") as file:
        file.write(json.dumps(example) + "\n")
    return path


def test_commands_and_bindings(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert len(COMMANDS) == 7
    for module, arguments in COMMANDS:
        small = ["--dimensions", "32", "--buckets", "0"] if module.endswith("classifier") else []
        assert importlib.import_module(module).main([*shlex.split(arguments), *small]) == 0, module
    assert json.loads(Path("scored/scores.json").read_text())["stages"][0]["in"] == 60
    stages = sorted({binding.split(" = ")[0].rsplit(".", 1)[0] for binding in BINDINGS})
    assert len(stages) == 3
    recipe = [
        "CleanWeb.stages = [@ReadWarc(), @Extract(),",
        *(f"    @{stage}()," for stage in stages),
        "]",
        *BINDINGS,
    ]
    Path("recipe.gin").write_text("\n".join(recipe) + "\n")
    loaded = config.load(CleanWeb, ["recipe.gin"], names=NAMES).root
    assert [stage.name for stage in loaded.stages[2:]] == ["decontaminate", "fasttext_quality", "perplexity"]
