"""Email addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Letters of scripts with spaces: in "请联系abc@example.com" the name begins after the Han characters.
_LETTER = "A-Za-z0-9\u00c0-\u024f\u0370-\u052f"
_NAME = re.compile(rf"[{_LETTER}_](?:[{_LETTER}_.%+'-]{{0,62}}[{_LETTER}_%+-])?\Z")  # 64 characters: RFC 5321
_DOMAIN = re.compile(
    rf"@((?:[{_LETTER}](?:[{_LETTER}-]{{0,61}}[{_LETTER}])?\.)+([a-z]{{2,24}}|[A-Z]{{2,24}}|[\u0370-\u052f]{{2,24}}|xn--[a-z0-9-]+))"
)
# "logo@2x.png" is a picture, "git@github.com:" a protocol.
_FILES = frozenset(
    {"png", "jpg", "jpeg", "gif", "webp", "svg", "bmp", "ico", "css", "js", "json", "html", "htm", "php"}
)
_NOBODY = frozenset({"git", "hg", "svn"})


def find_emails(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the email addresses in `text`; documents without @ cost nothing.

    Examples: "Mail me@x.org." -> [(5, 13)]; "@someone", "logo@2x.png", "git@github.com:a/b", "user@host" -> [].
    """
    place = text.find("@")
    while place >= 0:
        domain = _DOMAIN.match(text, place)
        name = _NAME.search(text, max(0, place - 64), place) if domain else None
        if domain and name and domain[2].lower() not in _FILES and name[0] not in _NOBODY:
            yield name.start(), domain.end()
            place = domain.end() - 1
        place = text.find("@", place + 1)
