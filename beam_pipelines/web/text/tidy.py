"""Tidying of a text: spaces, blank lines, addresses of other pages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from beam_pipelines.web.document import Document, Outcome
from t5x_style.errors import UserError

# The characters of an address: no spaces, quotes and brackets but round ones in pairs; letters of any script that
# separates its words, because the text of the others (Thai, Chinese, Japanese, Korean) goes on behind it.
_NO_ADDRESS = (
    '\\s()<>\\[\\]{}"|\\\\^`“”«»'
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
)
# What ends a sentence or a clause behind the address is not part of it.
_ADDRESS = rf"(?<![a-z0-9])(?:https?://|www\.)(?:[^{_NO_ADDRESS}]|\([^{_NO_ADDRESS}]*\))+(?<![.,;:!?…'’*])"
# With the brackets around it and nothing else, or the space before it, or at the start of a line the one behind it.
_URL = re.compile(
    rf"[ \t]?(?:\([ ]?{_ADDRESS}[ ]?\)|\[[ ]?{_ADDRESS}[ ]?\]|<{_ADDRESS}>)|(?m:^){_ADDRESS}[ \t]?|[ \t]?{_ADDRESS}",
    re.IGNORECASE,
)
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n\t ]")  # all that Unicode calls white space
_TRAILING = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)  # looks at a run of spaces once


@dataclass(frozen=True)
class TidyText:
    r"""Line feeds as line ends, ASCII spaces, few blank lines, no addresses; for recipes that do not normalise as well.

    RefinedWeb removes addresses and allows two line feeds in a row (arXiv 2306.01116, section 3.1, text
    extraction).

    Example: "See https://a.example/b?c (or www.d.example).\n\n\n\nEnd" -> "See (or).\n\nEnd".

    Attributes:
      newlines: in a row at most.
      remove_urls: take out http(s):// and www. addresses; domains alone ("example.org") stay, they are often names.
        IP addresses are a matter of personal data, not of this stage.

    `edits` counts `line_ends` and `spaces` turned into plain ones, `urls`, and `characters_removed` (blank lines,
    spaces at the ends of lines and around the text).

    Raises:
      UserError: `newlines` below 1.
    """

    newlines: int = 2
    remove_urls: bool = True
    name: str = "tidy"

    def __post_init__(self) -> None:
        if self.newlines < 1:
            raise UserError(f"TidyText {self.name!r}: newlines is {self.newlines}; lines need at least 1 between them")

    def apply(self, document: Document) -> Outcome:
        """See `DocumentStage`."""
        edits = {}
        text, edits["line_ends"] = _LINE_ENDS.subn("\n", document.text)
        text, edits["spaces"] = _SPACES.subn(" ", text)
        if self.remove_urls:
            text, edits["urls"] = _URL.subn("", text)
        tidied = _TRAILING.sub("", text)
        tidied = re.sub(rf"\n{{{self.newlines + 1},}}", "\n" * self.newlines, tidied).strip()
        edits["characters_removed"] = len(text) - len(tidied)
        return Outcome(document.replace(text=tidied), edits={name: count for name, count in edits.items() if count})
