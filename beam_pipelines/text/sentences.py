"""Sentence splitting: own rules for Chinese and Japanese, sentencex (MIT licence, rules of 240 languages) for the rest.

sentencex 1 is a Rust library of Wikimedia that knows abbreviations and list numbers ("Dr. Smith", "am 3. Oktober") and
splits 30 to 70 million characters a second. pysbd is slower by a factor of a thousand and no longer maintained; ICU
splits at "Dr.".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

CHINESE = frozenset({"zh", "wuu", "yue"})
THAI = frozenset({"th", "lo"})

_CLOSING = "”’」』）》】〉］｝\"')\\]"
# An ASCII mark ends a sentence unless it is part of an address or of code.
_MARKS = "(?:[。！？；…｡]|[!?](?![A-Za-z0-9/&=_]))"
_CHINESE_END = re.compile(f"{_MARKS}+[{_CLOSING}]*\\s*|\\n\\s*")
# In Japanese "「はい。」と" goes on after the quotation.
_JAPANESE_END = re.compile(f"{_MARKS}+(?:[{_CLOSING}]+(?!と|って)|(?![{_CLOSING}]))\\s*|\\n\\s*")
# Thai and Lao have no mark for the end of a sentence; a full stop belongs to an abbreviation.
_THAI_END = re.compile(f"[!?…]+[{_CLOSING}]*(?:\\s+|$)|\\n\\s*")
_LINE = re.compile(r"[^\n]*\n\s*|[^\n]+")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Characters of a line that sentencex gets at a time: its time grows as the square of the apostrophes in them (20 s for
# half a million).
_PIECE = 10_000


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of `text`, each with the spaces after it; joined they are the text. A line feed ends a sentence.

    Args:
      text: of any length; spaces at the start go with the first sentence.
      language: code as in `Document.language`; codes without rules of their own are split as English.

    Examples:
      ("Dr. Smith paid. Why?", "en") -> ["Dr. Smith paid. ", "Why?"]
      ("他说：“好。”然后走了。", "zh") -> ["他说：“好。”", "然后走了。"]
      ("「はい。」と言った。帰った。", "ja") -> ["「はい。」と言った。", "帰った。"]
    """
    if language in CHINESE:
        starts: Iterator[int] = _starts_after(_CHINESE_END, text)
    elif language == "ja":
        starts = _starts_after(_JAPANESE_END, text)
    elif language in THAI:
        starts = _starts_after(_THAI_END, text)
    else:
        starts = _library_starts(text, language)
    sentences, begin = [], 0
    for start in itertools.chain(starts, [len(text)]):
        if text[begin:start].strip():
            sentences.append(text[begin:start])
            begin = start
    if begin < len(text):  # spaces only
        sentences.append(text[begin:])
    return sentences


def count_sentences(text: str, language: str = "en") -> int:
    """Sentences with a letter or digit in them: 0 for an empty text, 1 for a text without any mark."""
    return sum(map(bool, map(_LETTER_OR_DIGIT.search, split_sentences(text, language))))


def _starts_after(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    return (match.end() for match in pattern.finditer(text))


def _library_starts(text: str, language: str) -> Iterator[int]:
    for line in _LINE.finditer(text):  # on whole texts it loses line feeds
        content = line[0].rstrip()
        place, inside = 0, False  # inside: what begins here goes on with the sentence before
        while True:
            starts = [place + start for start in _starts_in(content[place : place + _PIECE], language)]
            if place + _PIECE >= len(content):
                yield from (line.start() + start for start in starts[inside:])
                break
            if not starts:  # spaces only
                place += _PIECE
                continue
            last = starts.pop()  # of what may go on behind the piece
            yield from (line.start() + start for start in starts[inside:])
            if starts:
                place, inside = last, False
                continue
            if not inside:
                yield line.start() + last
            place, inside = place + _PIECE, True


def _starts_in(piece: str, language: str) -> Iterator[int]:
    from sentencex import segment

    try:
        sentences = segment(language, piece)
    except UnicodeEncodeError:  # lone surrogates
        piece = _SURROGATES.sub("\ufffd", piece)
        sentences = segment(language, piece)
    place = 0
    for sentence in sentences:
        place = piece.index(sentence, place)
        if sentence.strip():  # a piece may end in spaces
            yield place
        place += len(sentence)
