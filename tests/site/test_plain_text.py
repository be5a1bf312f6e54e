"""Docstrings on the site read as they do in the code."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plain_text() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_text", ROOT / "docs" / "site" / "plain_text.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shapes_tags_and_stars_are_characters(plain_text):
    made = plain_text.markdown("Rows [B, L][0] of <dt>, 4**k, *_ids, __main__, a * b and `x[0] * <y>`.")
    assert made == r"Rows \[B, L]\[0] of &lt;dt>, 4\*\*k, \*\_ids, \_\_main__, a * b and `x[0] * <y>`."


def test_indented_blocks_are_code(plain_text):
    made = plain_text.markdown("Adds.\n\nExample:\n  f(1) == 2\n\n  g(2)\n\nA table:\n\n    a  [b]\n    c  d\n\nEnd.")
    assert made == (
        "Adds.\n\nExample:\n\n```python\nf(1) == 2\n\ng(2)\n```\n\nA table:\n\n```text\na  [b]\nc  d\n```\n\nEnd."
    )


def test_doctests_and_json_keep_their_lines(plain_text):
    made = plain_text.markdown('Text.\n\n>>> f(1)\n2\n\nMore.\n\n{"a": 1,\n "b": [2]}')
    assert made == 'Text.\n\n```pycon\n>>> f(1)\n2\n```\n\nMore.\n\n```python\n{"a": 1,\n "b": [2]}\n```'


def test_a_sentence_that_goes_on_indented_is_no_code(plain_text):
    made = plain_text.markdown("Example, IOBES: begin O;\n  end B.\n\nMore.")
    assert made == "Example, IOBES: begin O;\nend B.\n\nMore."


def test_lists_keep_their_indentation_and_get_an_empty_line(plain_text):
    made = plain_text.markdown("Steps:\n1. one\n   goes on\n2. two\n\nEnd.")
    assert made == "Steps:\n\n1. one\n   goes on\n2. two\n\nEnd."


def test_every_name_of_a_section_has_its_entry(plain_text):
    made = plain_text.markdown(
        "Sums.\n\nArgs:\n  a, b: rows [B].\n  c: one. d: two,\n    and more. Note: not a name.\n\n"
        "Raises:\n  ValueError: no <x>.",
        ["a", "b", "c", "d"],
    )
    assert made == (
        "Sums.\n\nArgs:\n  a: rows \\[B].\n  b: rows \\[B].\n  c: one.\n  d: two,\n    and more. Note: not a name.\n\n"
        "Raises:\n  ValueError: no &lt;x>."
    )


def test_an_entry_may_go_on_without_indentation(plain_text):
    made = plain_text.markdown("Args:\n  a: before\n  the end. b: last\n  of all.", ["a", "b"])
    assert made == "Args:\n  a: before\n    the end.\n  b: last\n    of all."


def test_own_docstring_holds(plain_text):
    (example,) = re.findall(r"Example:\n\s+(.+)", plain_text.markdown.__doc__)
    assert eval(example, vars(plain_text)) is True
