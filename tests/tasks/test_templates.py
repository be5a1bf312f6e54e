from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.templates import Template, format_options, template_index


def test_options_block():
    assert format_options(["a", "b"]) == "OPTIONS:\n- a\n- b"


def test_render_worked_example():
    template = Template("ask", "{docstring}\n\nWhich?\n\n{options_}", "It is {answer}.")
    assert template.render({"docstring": "Sum of x.", "answer": "numpy"}, ["jax", "numpy"]) == (
        "Sum of x.\n\nWhich?\n\nOPTIONS:\n- jax\n- numpy",
        "It is numpy.",
    )
    assert template.fields == {"docstring", "options_", "answer"}


@given(docstring=st.text(), answer=st.text(), options=st.lists(st.text(), max_size=4))
def test_values_are_never_read_as_fields(docstring, answer, options):
    """Braces, percent signs and format specifications in values come out as they are."""
    template = Template("t", "<{docstring}>", "[{answer}]")
    assert template.render({"docstring": docstring, "answer": answer}, options) == (f"<{docstring}>", f"[{answer}]")


@given(st.lists(st.text(st.characters(exclude_characters="\n"), min_size=1), min_size=1, max_size=6))
def test_options_can_be_read_back(options):
    inputs, _ = Template("t", "{options_}").render({"answer": "x"}, options)
    assert inputs.removeprefix("OPTIONS:\n- ").split("\n- ") == options


def test_missing_fields_are_errors():
    with pytest.raises(KeyError, match="docstring"):
        Template("t", "{docstring}").render({"answer": "x"})
    with pytest.raises(KeyError, match="options_"):
        Template("t", "{options_}").render({"answer": "x"}, [])


@pytest.mark.parametrize("inputs", ["{0}", "{}", "{a.b}", "{a[0]}", "{a!r}", "{a:>3}"])
def test_only_plain_names_are_fields(inputs):
    with pytest.raises(ValueError, match="template t: field"):
        Template("t", inputs)


def test_literal_braces():
    assert Template("t", "{{x}} {a}").render({"a": "1", "answer": ""}) == ("{x} 1", "")


def test_template_choice_is_stable_and_even():
    assert [template_index("kind", name, 8) for name in ("numpy.sum", "json.loads", "a")] == [3, 5, 6]
    counts = Counter(template_index("package", f"module.object_{number}", 8) for number in range(8000))
    assert set(counts) == set(range(8))
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_clusters_choose_independently():
    names = [f"module.object_{number}" for number in range(1000)]
    equal = sum(template_index("kind", name, 8) == template_index("package", name, 8) for name in names)
    assert 70 < equal < 190  # 125 expected
