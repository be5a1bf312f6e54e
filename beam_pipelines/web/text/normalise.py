"""Text normalisation: one spelling for what looks the same, nothing invisible."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from beam_pipelines.web.document import Document, Outcome
from t5x_style.errors import UserError

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# After these a zero-width joiner or non-joiner changes what is read: Arabic to Tibetan, Burmese, Khmer, Mongolian, the
# Arabic presentation forms, and emoji, which it combines.
_JOINED = (
    "\u0600-\u0fff\u1000-\u109f\u1780-\u18af\u1b00-\u1b7f\ua980-\ua9df\ufb50-\ufdff\ufe70-\ufefc"
    "\u20e3\u2190-\u21ff\u2600-\u27bf\u2b05-\u2b55\ufe0f\U0001f000-\U0001faff\U00011000-\U000114df"
)
# Flags of regions are written with invisible letters; everything else here is never seen: controls, soft hyphen,
# zero-width space, directions, invisible operators, byte order mark, surrogates, noncharacters, free tag letters.
_INVISIBLE = re.compile(
    "(\U0001f3f4[\U000e0030-\U000e007a]+\U000e007f)"
    "|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
    f"|(?<![{_JOINED}])[\u200c\u200d]"
)
# Quotes of the Latin, Greek and Cyrillic scripts but not «», which stand for dialogue too; CJK brackets stay.
_QUOTES = (("\u201c\u201d\u201e\u201f", '"'), ("\u2018\u2019\u201a\u201b", "'"))
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"


@dataclass(frozen=True)
class NormaliseText:
    """Gives text one Unicode form and plain spaces and takes out what is never seen.

    Line ends become line feeds, unusual spaces ASCII spaces. Control characters but for line feed and tab, zero-width
    characters, soft hyphens, directions and lone surrogates go. Joiners stay where they change what is read (Persian,
    Indic scripts, emoji). A second application changes nothing.

    Mojibake is not repaired: encodings are detected before extraction, where the bytes are still there.

    Attributes:
      form: `NFC`; `NFKC`, which also turns full-width letters, ligatures and superscripts into plain ones ("10²"
        becomes "102", and a Thai vowel is taken apart); '' for neither.
      quotes: turn typographic quotes of European scripts into " and '.
      dashes: turn hyphens, dashes and the minus sign into -.

    `edits` counts `line_ends`, `spaces`, `invisible_characters`, `quotes`, `dashes`, and `texts_composed`: 1 where the
    form changed the text.
    """

    form: Literal["", "NFC", "NFKC"] = "NFC"
    quotes: bool = False
    dashes: bool = False
    name: str = "normalise"

    def __post_init__(self) -> None:
        if self.form not in ("", "NFC", "NFKC"):
            raise UserError(f"NormaliseText.form is {self.form!r}; choose NFC, NFKC or ''")

    def apply(self, document: Document) -> Outcome:
        """See `DocumentStage`; rejects nothing."""
        text, edits = self.normalise(document.text)
        return Outcome(document.replace(text=text) if edits else document, edits=edits)

    def normalise(self, text: str) -> tuple[str, dict[str, int]]:
        """(the text, what was changed in it).

        Example: "fi\\u00adne\\u00a0day\\r\\n" -> ("fine day\\n", {"line_ends": 1, "spaces": 1,
        "invisible_characters": 1}).
        """
        edits = {}
        text, edits["line_ends"] = _LINE_ENDS.subn("\n", text)
        text, edits["texts_composed"] = self._composed(text)
        if not text.isascii():
            text, edits["spaces"] = _SPACES.subn(" ", text)
        text, edits["invisible_characters"] = _without_invisible(text)
        if edits["invisible_characters"]:  # a letter and its accent may now stand side by side
            text = self._composed(text)[0]
        if self.quotes:
            edits["quotes"] = 0
            for characters, plain in _QUOTES:
                text, count = _replace(text, characters, plain)
                edits["quotes"] += count
        if self.dashes:
            text, edits["dashes"] = _replace(text, _DASHES, "-")
        return text, {what: count for what, count in edits.items() if count}

    def _composed(self, text: str) -> tuple[str, int]:
        if not self.form or unicodedata.is_normalized(self.form, text):
            return text, 0
        return unicodedata.normalize(self.form, text), 1


def _without_invisible(text: str) -> tuple[str, int]:
    shorter = _INVISIBLE.sub(r"\1", text)
    return shorter, len(text) - len(shorter)


def _replace(text: str, characters: str, plain: str) -> tuple[str, int]:
    count = 0
    for character in characters:
        if found := text.count(character):
            text = text.replace(character, plain)
            count += found
    return text, count
