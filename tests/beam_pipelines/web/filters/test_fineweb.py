"""FineWeb's rules at their boundaries."""

import pytest

from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.filters.fineweb import FineWebQuality
from t5x_style.errors import UserError


def judge(text, **parameters):
    return FineWebQuality(**parameters).judge(Document("0" * 32, text, "", "", "", "en", 1.0, "{}"))


def lines(count, end="", start=0, words=8):
    """Lines that are all different and over 30 characters."""
    return [" ".join(f"w{start + index}x{word}" for word in range(words)) + end for index in range(count)]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (lines(12, ".") + lines(88, start=50), ""),  # exactly .12
        (lines(11, ".") + lines(89, start=50), "punctuated_lines_low"),
        (lines(6, '"') + lines(6, "!", 20) + lines(88, start=50), ""),
        (lines(12, ",") + lines(88, start=50), "punctuated_lines_low"),
        (lines(3, "。") + lines(4, "؟", 20) + lines(5, "।", 30) + lines(88, start=50), ""),
        (
            [f"{'y' * 20}{index:010d}"[:30] for index in range(67)] + lines(33, ".", words=20),
            "",
        ),  # .67 of 30 characters
        ([f"{'y' * 20}{index:010d}"[:30] for index in range(68)] + lines(32, ".", words=20), "short_lines_high"),
        ([f"{'y' * 20}{index:011d}"[:31] for index in range(68)] + lines(32, ".", words=20), ""),
        (["    " + f"{'y' * 29}{index % 10}" for index in range(10)] + lines(2, "."), "short_lines_high"),  # indented
    ],
)
def test_lines(parts, reason):
    assert judge("\n".join(parts)).reason == reason


def test_duplicate_characters_exactly_at_the_threshold():
    # 40 characters occur again, in 4,000 without line ends.
    repeated = "the same line again and again and again."
    assert len(repeated) == 40
    rest = ["x" + " y" * 1952 + str(number) * 7 for number in range(1)]
    total = "\n\n".join([repeated, *rest, repeated])
    characters = len(total.replace("\n", ""))
    share = 40 / characters
    assert judge(total, max_duplicate_line_characters=share, max_newlines_per_word=1) == KEEP
    verdict = judge(total, max_duplicate_line_characters=share * 0.999, max_newlines_per_word=1)
    assert verdict == ("duplicate_line_characters_high", share, share * 0.999)


def test_newlines_of_blank_lines_count():
    ten = "one two three four five six seven eight nine ten is here."
    assert judge("\n\n\n".join([ten, ten[:-1] + " too."]), max_newlines_per_word=3 / 25) == KEEP
    assert judge("\n\n\n".join([ten, ten[:-1] + " too."])).reason == ""
    assert (
        judge("a b c d e f g h i j k l m n o p.\n" * 5 + "\n", short_line=5).reason == "duplicate_line_characters_high"
    )
    assert judge("one two three.\n\n\nfour five six.", short_line=5).reason == "newlines_per_word_high"  # 3 of 6 words


@pytest.mark.parametrize("text", ["", " \n ", "\u00a0\n"])
def test_without_lines(text):
    assert judge(text) == ("lines_low", 0, 1)


@pytest.mark.parametrize("text", ["\x00", "\ud800", "word", "河" * 3000, "x" * 1_000_000])
def test_odd_texts_get_a_verdict(text):
    assert judge(text).reason == "punctuated_lines_low"
    assert judge(text + ".", short_line=0) == KEEP


def test_end_marks_are_a_parameter():
    assert judge("\n".join(lines(10, ":")), end_marks=[":"]) == KEEP


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"min_punctuated_lines": 12}, "min_punctuated_lines"),
        ({"short_line": -1}, "short_line"),
        ({"end_marks": []}, "end_marks"),
        ({"end_marks": ".!"}, "end_marks"),
    ],
)
def test_impossible_parameters_are_refused(parameters, names):
    with pytest.raises(UserError, match=names):
        FineWebQuality(**parameters)
