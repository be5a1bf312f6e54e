"""Gopher's document quality rules (Rae et al. 2021, appendix A1.1; https://arxiv.org/abs/2112.11446)."""

from __future__ import annotations

from dataclasses import dataclass

from beam_pipelines.web.document import KEEP, Document, Verdict
from beam_pipelines.web.words import normalised_words

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
BULLETS = ("•", "‣", "▪", "●", "-", "*")
ELLIPSES = ("...", "…")


@dataclass(frozen=True)
class GopherQuality:
    """Rejects documents that do not look like prose.

    The defaults are the paper's. Ratios are per word (`words.split_words`) or per line that is not blank.

    Attributes:
      min_words, max_words: both ends are kept.
      min_mean_word_length, max_mean_word_length: characters per word.
      max_hash_ratio, max_ellipsis_ratio: `#` and ellipses per word.
      max_bullet_lines: share of lines that start with a bullet.
      max_ellipsis_lines: share of lines that end in an ellipsis.
      min_alphabetic_words: share of words with at least one letter.
      min_stop_words: distinct words of {the, be, to, of, and, that, have, with}.
    """

    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_length: float = 3.0
    max_mean_word_length: float = 10.0
    max_hash_ratio: float = 0.1
    max_ellipsis_ratio: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alphabetic_words: float = 0.8
    min_stop_words: int = 2
    name: str = "gopher_quality"

    def apply(self, document: Document) -> tuple[Document, Verdict]:
        """See `judge`."""
        return document, self.judge(document.text, document.words)

    def judge(self, text: str, words: list[str]) -> Verdict:
        """The first rule, in the order of the attributes, that `text` with its `words` breaks."""
        count = len(words)
        if count < self.min_words or count == 0:
            return Verdict("too_few_words", count, self.min_words)
        if count > self.max_words:
            return Verdict("too_many_words", count, self.max_words)
        mean_length = sum(map(len, words)) / count
        if mean_length < self.min_mean_word_length:
            return Verdict("short_words", mean_length, self.min_mean_word_length)
        if mean_length > self.max_mean_word_length:
            return Verdict("long_words", mean_length, self.max_mean_word_length)
        hashes = text.count("#") / count
        if hashes > self.max_hash_ratio:
            return Verdict("hashes", hashes, self.max_hash_ratio)
        ellipses = sum(map(text.count, ELLIPSES)) / count
        if ellipses > self.max_ellipsis_ratio:
            return Verdict("ellipses", ellipses, self.max_ellipsis_ratio)
        return self._judge_lines(text) or self._judge_vocabulary(text, words) or KEEP

    def _judge_lines(self, text: str) -> Verdict | None:
        lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
        bullets = sum(line.startswith(BULLETS) for line in lines) / len(lines)
        if bullets > self.max_bullet_lines:
            return Verdict("bullet_lines", bullets, self.max_bullet_lines)
        ellipses = sum(line.endswith(ELLIPSES) for line in lines) / len(lines)
        if ellipses > self.max_ellipsis_lines:
            return Verdict("ellipsis_lines", ellipses, self.max_ellipsis_lines)
        return None

    def _judge_vocabulary(self, text: str, words: list[str]) -> Verdict | None:
        alphabetic = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words) / len(words)
        if alphabetic < self.min_alphabetic_words:
            return Verdict("non_alphabetic_words", alphabetic, self.min_alphabetic_words)
        stop_words = len(STOP_WORDS.intersection(normalised_words(text)))
        if stop_words < self.min_stop_words:
            return Verdict("few_stop_words", stop_words, self.min_stop_words)
        return None
