"""The one word splitter: every stage that counts words counts these.

Three kinds of writing are told apart:

* With spaces (Latin, Cyrillic, Arabic, Hangul, ...): words are what stands between spaces, as Gopher's authors count.
* Without spaces (Han, Kana, Thai, Lao, Khmer, Burmese, Tibetan): ICU's dictionaries find the words. One library for all
  of these scripts (icu4py, MIT licence, ICU 78) at 3 to 7 million characters a second on one core, 2 to 4 million with
  what is around it here. jieba's Rust port is twice as fast, for Chinese alone, and cuts Japanese into single kana;
  BudouX makes lines, not words; newmm is for Thai alone.
* With vowel signs and joiners (Indic scripts, Arabic with points): these belong to the word, which the `\\w` of `re`
  denies; that of the regex package does not, and is as fast.

ASCII text, and other text that one pass of numpy finds free of the second kind (7% of the time of `str.split`), is left
to `str.split`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np
import regex

# Scripts without spaces and the punctuation written with them. Full-width letters and digits are like Latin ones.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai to Tibetan; Burmese, Khmer
    "\u2e80-\u2fdf\u3001-\u302f\u3031-\u303c\u3041-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # radicals, punctuation, Kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\U0001aff0-\U0001b16f"  # full-width punctuation, more Kana
)
_UNSPACED_RUN = re.compile(f"([{_UNSPACED}]+)")
# The same in UTF-16 code units, coarsely: what lies between is looked at again by the pattern.
_UNSPACED_UNITS = ((0x0E00, 0x1A00), (0x2E80, 0xAC00), (0xD82B, 0xD82D), (0xD840, 0xD900), (0xF900, 0xFFA0))

# Between words of a run. `str.split` takes it for a space, as it does all four ASCII separators.
_BORDER = "\x1f"
_OPENING = "(\\[{\u00a1\u00ab\u00bf\u2018\u201a\u201c\u201e\u2039\u2045\u207d\u2329\u2985\u3008\u300a\u300c\u300e\u3010"
_OPENING += "\u3014\u3016\u3018\u301a\u301d\uff08\uff3b\uff5b\uff5f\uff62\u0f3a\u0f3c"
# Punctuation and marks go with the word before, opening brackets and quotes with the one after: no border there. Two
# letters of Thai and Lao are vowel signs to those who count characters.
_NO_BORDER = re.compile(f"{_BORDER}(?:(?<=[{_OPENING}]{_BORDER})|(?![\\w\\s{_OPENING}])|(?=[\u0e33\u0eb3]))")

# For ASCII both patterns are the same; `re` needs no look at the text's storage and starts faster.
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_WORD = regex.compile(r"\w+")


def split_words(text: str) -> list[str]:
    """Words as the filters count them: runs of non-space characters, punctuation attached, as Gopher's authors count.

    Splitting off punctuation as words changes decisions: the rule on words with a letter then fails pages with much
    punctuation six times as often. Runs of scripts without spaces are divided into words, each with its punctuation.
    Every character that is not a space is in exactly one word.

    Examples:
      "It's 3.5 dB, he said." -> ["It's", "3.5", "dB,", "he", "said."]
      "我们用Python，他说：“好。”" -> ["我们", "用", "Python，", "他", "说：", "“好。”"]
    """
    if text.isascii() or not _may_be_unspaced(text):
        return text.split()
    return _with_borders(text).split()


def normalised_words(text: str) -> list[str]:
    """Words as near-duplicate detection compares them: runs of word characters, lower case.

    Word characters are those of Unicode's UTS #18: letters, combining marks, decimal digits, _ and zero-width joiners.

    Examples:
      "It's 3.5 dB, he said." -> ["it", "s", "3", "5", "db", "he", "said"]
      "हिन्दी में।" -> ["हिन्दी", "में"]
      "我们用Python，" -> ["我们", "用", "python"]
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    if _may_be_unspaced(text):
        text = _with_borders(text)
    return _WORD.findall(text.lower())


def word_spans(text: str, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where the words of `split_words(text)` stand: (starts, ends), int64 [words], in characters of `text`.

    Spans ascend, do not overlap, and leave out nothing but spaces; a cut at a span's end never parts a letter from its
    marks.

    Example: "a  漢字。" with ["a", "漢字。"] -> ([0, 3], [1, 6]).

    Raises:
      ValueError: the words are not those of the text.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    places = np.flatnonzero(~_SPACES[np.minimum(codes, len(_SPACES) - 1)])
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    stops = np.cumsum(lengths)
    if (stops[-1] if len(stops) else 0) != len(places):
        raise ValueError(f"the words have another number of characters than the text, which has {len(places)}")
    starts, ends = places[stops - lengths], places[stops - 1] + 1
    if not np.array_equal(ends - starts, lengths):
        raise ValueError("the words are not split where the text has spaces")
    return starts, ends


def _space_table() -> np.ndarray:
    """Whether a character is a space, for the characters up to the last space, U+3000, and one more for all others."""
    return np.array([chr(code).isspace() for code in range(0x3002)])


_SPACES = _space_table()


def _may_be_unspaced(text: str) -> bool:
    """Whether a UTF-16 code unit of `text` is where scripts without spaces are; 0.6 ns a character for Latin."""
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16)
    highest = units.max()
    # Unsigned subtraction wraps, so one comparison tests both ends.
    return any(
        bool(((units - np.uint16(low)) < np.uint16(high - low)).any())
        for low, high in _UNSPACED_UNITS
        if low <= highest
    )


@functools.lru_cache(maxsize=1)  # a document's words and normalised words are asked for one after the other
def _with_borders(text: str) -> str:
    """`text` with U+001F, a space to `str.split`, between words that no space separates."""
    from icu4py.breakers import WordBreaker

    if _BORDER in text:
        text = text.replace(_BORDER, " ")
    parts = _UNSPACED_RUN.split(text)  # runs at odd places
    if len(parts) == 1:
        return text
    # One call for all runs: a call costs as much as 50 characters. ICU never joins what a line feed separates.
    divided = _BORDER.join(WordBreaker("\n".join(parts[1::2]), "en"))
    parts[1::2] = divided.split(f"{_BORDER}\n{_BORDER}")
    return _NO_BORDER.sub("", _BORDER.join(parts))
