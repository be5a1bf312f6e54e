"""What the version of the code covers: every file of ours that a stage can reach, but for what only moves bytes."""

import ast
from pathlib import Path

import beam_pipelines
from beam_pipelines.web import pipeline

ROOT = Path(beam_pipelines.__file__).parent
# They carry units and bytes, whatever is in them; the report shows what was done.
MOVERS = ("jobs/", "files/storage.py", "files/http_files.py", "files/read_ahead.py", "files/inputs.py", "web/report/")


def imported(path):
    """Files of beam_pipelines that one file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("beam_pipelines"):
            base = ROOT.joinpath(*node.module.split(".")[1:])
            for file in (base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)):
                if file.is_file():
                    yield file


def test_every_file_that_a_stage_reaches_is_part_of_the_version():
    covered, todo, seen = set(pipeline.code_files()), list((ROOT / "web").rglob("*.py")), set()
    while todo:
        path = todo.pop()
        if path not in seen and not path.relative_to(ROOT).as_posix().startswith(MOVERS):
            seen.add(path)
            todo.extend(imported(path))
    assert len(seen) > 70
    assert sorted(str(path) for path in seen - covered) == []


def test_word_lists_and_samples_count_and_the_page_does_not():
    names = {path.relative_to(ROOT).as_posix() for path in pipeline.code_files()}
    assert {"web/resources/url_words/hard.txt", "web/report/samples.py", "text/words.py"} <= names
    assert "web/report/page.py" not in names
