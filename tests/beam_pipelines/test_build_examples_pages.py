import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.examples.pages import ObjectPage, cut, find_summary, names, object_page
from beam_pipelines.examples.sections import described_arguments

CLASS_PAGE = """json › decoder
json.decoder.JSONDecoder
class JSONDecoder(object)

Simple JSON decoder.

Performs the following translations in decoding by default.

Methods

def decode(self, s, _w=WHITESPACE.match)
Return the Python representation of s.
def raw_decode(self, s, idx=0)
"""


def metadata(**meta):
    return json.dumps({"title": "t", "meta": {"kind": "function", "package": "p", "module": "m", **meta}})


def test_class_page_worked_example():
    page = object_page(
        CLASS_PAGE,
        metadata(
            kind="class",
            object="json.decoder.JSONDecoder",
            module="json.decoder",
            package="json",
            methods="__init__,decode,raw_decode",
            summary="Simple JSON decoder.",
        ),
    )
    assert page == ObjectPage(
        name="json.decoder.JSONDecoder",
        key="json.decoder.JSONDecoder",
        kind="class",
        package="json",
        arguments=(),
        methods=("__init__", "decode", "raw_decode"),
        summary="Simple JSON decoder.",
        docstring="Simple JSON decoder.\n\nPerforms the following translations in decoding by default.",
        body="\n\nPerforms the following translations in decoding by default.",
        listing="def decode(self, s, _w=WHITESPACE.match)\nReturn the Python representation of s.\n"
        "def raw_decode(self, s, idx=0)",
    )


def test_a_method_page_has_the_key_of_its_class():
    meta = metadata(object="m.C.f", summary="Does it.", arguments="self,x,*args")
    page = object_page("m.C.f\ndef f(self, x, *args)\nDoes it.", meta)
    assert (page.key, page.arguments, page.docstring) == ("m.C", ("x", "args"), "Does it.")


@pytest.mark.parametrize(
    ("text", "meta", "reason"),
    [
        ("text", {}, "not an object page"),
        ("text", {"object": "", "summary": "x"}, "not an object page"),
        ("text", {"object": "m.f", "kind": "module", "summary": "x"}, "kind is neither class nor function"),
        ("text", {"object": "m.f", "summary": " `` "}, "no docstring"),
        ("text", {"object": "m.f", "summary": "Other."}, "docstring not found in the cleaned text"),
    ],
)
def test_reasons(text, meta, reason):
    assert object_page(text, metadata(**meta)) == reason


def test_documents_without_json_metadata_are_no_object_pages():
    assert object_page("text", "") == "not an object page"


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ("Sum of ``x`` and `y`.", "Sum of x and y."),
        ("Calls :meth:`str.encode` here.", "Calls :meth:str.encode here."),
        ("Like bin(), except", "Like  bin(),\nexcept for negatives."),
        ("See `x <https://a.org/b>`_ now", "See x <_ now".replace("<_", "<>`_")),
        ("Sum (a+b)*c?", "Sum (a+b)*c?"),
    ],
)
def test_summary_is_found_in_cleaned_text(summary, text):
    page = "f › g\ndef f(x)\n\n" + text
    start, end = find_summary(summary, page)
    assert start == len("f › g\ndef f(x)\n\n")
    assert page[start:end].split()[0] == summary.split()[0]
    assert page[start:end].split()[-1] == summary.split()[-1].replace("`y`", "y")


def test_the_list_of_methods_is_no_part_of_the_docstring():
    """An extractor may flatten the page into one line, or lose the list below its heading."""
    meta = metadata(kind="class", object="m.C", methods="close", summary="A file.")
    flat = object_page("m › C m.C class C A file. More. Methods - def close(self)", meta)
    assert (flat.docstring, flat.listing) == ("A file. More.", "- def close(self)")
    lost = object_page("class C\n\nA file.\n\nMethods\n", meta)
    assert (lost.docstring, lost.listing) == ("A file.", "")
    prose = object_page("class C\n\nA file.\n\nMethods\n\nclose is described elsewhere.", meta)
    assert prose.docstring.endswith("close is described elsewhere.")


def test_names():
    assert names("x, *args /") == ("x", "args")
    assert names(["a", "**b", "a"]) == ("a", "b")
    assert names(None) == names("") == ()


@given(st.text(), st.integers(1, 40))
def test_cut_keeps_a_prefix_within_the_limit(text, limit):
    short = cut(text, limit)
    assert len(short) <= limit
    assert text.strip().startswith(short)


def test_cut_ends_with_a_whole_word():
    assert cut("one two", 5) == "one"
    assert cut("one two", 7) == "one two"
    assert cut("one two", 3) == "one"
    assert cut("onetwo", 3) == "one"


NUMPY_RENDERED = """Sum it.

Parameters

a, b : array_like
The operands: both are needed.
*args : tuple, optional
More.

Returns

out : ndarray
The sum."""
NUMPY_RAW = """Sum it.

Parameters
----------
a : array_like
    The operand.
axis : {0, 1}, optional
    Axis : the axis.

Returns
-------
out : ndarray"""
GOOGLE_RENDERED = """Sum it.

Args

  • x (int):
the left one.
- `y`: the right one, never zero.

Returns

z: the sum."""


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (NUMPY_RENDERED, ("a", "b", "args")),
        (NUMPY_RAW, ("a", "axis", "Axis")),  # the caller checks the names against the signature
        (GOOGLE_RENDERED, ("x", "y")),
        ("Args:\n  x: left.\n  y (Dict[str, int]): right.\nReturns:\n  z: sum.", ("x", "y")),
        ("Arguments\n\nf1 -- First file name\n\nReturn value\n\nTrue -- if equal", ("f1",)),
        ("Does it.\n\n:param x: left\n:param int y: right\n:returns: z", ("x", "y")),
        ("Does it. :param x: left :param int y: right :returns: z", ("x", "y")),
        ("Parameters\n\nx : int\nThe x.\n\nOther Parameters\n\ny : int\nThe y.", ("x", "y")),
        ("No section. Args are x: int.", ()),
        ("Note:\n  x: not an argument.", ()),
        ("", ()),
    ],
)
def test_described_arguments(docstring, expected):
    assert described_arguments(docstring) == expected


NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
WORDS = st.from_regex(r"[a-z]{1,6}( [a-z]{1,6}){0,3}\.", fullmatch=True)


@given(st.lists(st.tuples(NAME, WORDS), min_size=1, max_size=6, unique_by=lambda pair: pair[0]), st.booleans())
def test_described_arguments_reads_what_is_written(entries, google):
    """Names come back in order, whatever they and their descriptions are."""
    title = "Args" if google else "Parameters"
    lines = [f"{name}: {text}" if google else f"{name} : int\n{text}" for name, text in entries]
    docstring = f"Do it.\n\n{title}\n\n" + "\n".join(lines) + "\n\nReturns\n\nresult : int"
    assert described_arguments(docstring) == tuple(name for name, _ in entries)


@given(st.text())
def test_described_arguments_takes_any_text(text):
    assert all(name.isidentifier() for name in described_arguments(text))


def test_agrees_with_docstring_parser():
    """An outside reader of raw Google docstrings finds the same names."""
    docstring_parser = pytest.importorskip("docstring_parser")
    raw = "Sum.\n\nArgs:\n  x: left.\n  y (int): right,\n    never zero.\n  *rest: more.\n\nReturns:\n  z"
    theirs = [
        each.arg_name.lstrip("*") for each in docstring_parser.parse(raw, docstring_parser.DocstringStyle.GOOGLE).params
    ]
    assert list(described_arguments(raw)) == theirs == ["x", "y", "rest"]
