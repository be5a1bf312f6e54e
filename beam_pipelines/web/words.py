"""The one word splitter: every stage that counts words counts these."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def split_words(text: str) -> list[str]:
    """Words as the filters count them: runs of non-space characters, punctuation attached, as Gopher's authors count.

    Splitting off punctuation as words changes decisions: the rule on words with a letter then fails pages with much
    punctuation six times as often.

    Example: "It's 3.5 dB, he said." -> ["It's", "3.5", "dB,", "he", "said."]
    """
    return text.split()


def normalised_words(text: str) -> list[str]:
    """Words as near-duplicate detection compares them: runs of letters, digits and _, lower case.

    Example: "It's 3.5 dB, he said." -> ["it", "s", "3", "5", "db", "he", "said"]
    """
    return _WORD.findall(text.lower())
