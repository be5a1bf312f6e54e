"""The character encoding of a page: what it declares, checked against its bytes, else what the bytes look like.

Pages lie about their encoding, so a declaration counts as far as the bytes confirm it:
1. a byte order mark decides, and so do the zero bytes of UTF-16 without one;
2. bytes that are valid UTF-8 are UTF-8, whatever is declared: text in another encoding hardly ever is;
3. the HTTP header's charset, then the page's own, if the bytes decode in it without a fault. Any bytes decode in
   windows-1252, the name that servers send unasked, so it has to look Western as well;
4. what statistics propose (uchardet), if the bytes decode in it;
5. what is left is broken: the first declaration, UTF-8 without one, U+FFFD for what cannot be read.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# A browser looks at the first 1024 bytes (HTML standard, 13.2.3.2); many pages have scripts before the declaration.
_HEAD = 4096
_DECLARATION = re.compile(
    rb"<(?:meta\b[^>]*?\bcharset|\?xml\b[^>]*?\bencoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE
)
_NAME = re.compile(r"[\w.:-]+")
# Python's codecs for what browsers read under a name (encoding.spec.whatwg.org, "Names and labels" and the legacy
# decoders): the supersets that pages use while naming the smaller standard.
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
}
# Python's codecs of text that are no encodings of pages; some refuse to replace what they cannot read.
_NO_ENCODINGS = frozenset({"undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7"})
# Unreadable share of the characters beyond ASCII at which a page is still damaged UTF-8: in UTF-8, another encoding's
# text is unreadable nearly throughout, a page put together from two sources in a few places.
_DAMAGED = 0.1
_HIGH_RUN = re.compile(rb"[\x80-\xff]{4,}")
_HIGH = bytes(range(0x80, 0x100))


class Decoded(NamedTuple):
    """A page's text and the name of the Python codec that read it."""

    text: str
    encoding: str


def decode(content: bytes, declared: str = "") -> Decoded:
    """Text of a page's bytes; a character cut off at the end is left out.

    Args:
      content: the page.
      declared: charset of the HTTP header, '' for none; a name that no browser knows counts as none.

    Example: decode("Привет, мир".encode("windows-1251"), "iso-8859-1") is read as cp1251.
    """
    if (wide := _two_bytes(content)) is not None:
        return wide
    text = _strictly(content, "utf-8")
    if text is not None and not (b"\x1b" in content and content.isascii()):
        return Decoded(text, "utf-8")
    names = declarations(content, declared)
    if text is not None:  # escape sequences: seven-bit Japanese, or strays
        return _seven_bit(content, [*names, _guess(content)]) or Decoded(text, "utf-8")
    if not names or "utf-8" in names:
        text = content.decode("utf-8", "replace")
        beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
        if text.count("\ufffd") <= _DAMAGED * beyond_ascii:
            return Decoded(text, "utf-8")
    guessed = _guess(content)
    for name in (*names, guessed):
        if name == "cp1252" and not looks_western(content):
            continue
        if name and (text := _strictly(content, name)) is not None:
            return Decoded(text, name)
    fallback = names[0] if names else "utf-8"
    return Decoded(content.decode(fallback, "replace"), fallback)


def declarations(content: bytes, declared: str) -> list[str]:
    """Codecs of the encodings that the header and the page itself name, in this order."""
    labels = [declared.strip()] if declared.strip() else []
    labels += [found.decode("ascii", "ignore") for found in _DECLARATION.findall(content, 0, _HEAD)[:1]]
    names = [_codec(match[0]) for label in labels if (match := _NAME.search(label))]
    # Bytes that hold readable ASCII are not UTF-16, whatever they declare (HTML standard, 13.2.3.3).
    return list(dict.fromkeys(name for name in names if name and not name.startswith("utf-16")))


def looks_western(content: bytes) -> bool:
    """Whether the bytes beyond ASCII stand alone, as accented letters do, and not in runs of 4 and more, as Cyrillic,
    Greek, Arabic, Chinese, Japanese and Korean text does."""
    high = len(content) - len(content.translate(None, _HIGH))
    return 2 * sum(map(len, _HIGH_RUN.findall(content))) <= high


def _two_bytes(content: bytes) -> Decoded | None:
    """What a byte order mark, or every other byte of the start being zero, says."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return Decoded(content[len(mark) :].decode(encoding, "replace"), encoding)
    start = content[:64]  # a page begins with markup, which is ASCII: every other byte is zero
    even, odd = (start[first::2].count(0) / max(len(start) // 2, 1) for first in (0, 1))
    if odd > 0.5 and even < 0.1:
        return Decoded(content.decode("utf-16-le", "replace"), "utf-16-le")
    if even > 0.5 and odd < 0.1:
        return Decoded(content.decode("utf-16-be", "replace"), "utf-16-be")
    return None


def _seven_bit(content: bytes, names: list[str]) -> Decoded | None:
    for name in names:
        if name.startswith("iso2022") and (text := _strictly(content, name)) is not None:
            return Decoded(text, name)
    return None


def _strictly(content: bytes, encoding: str) -> str | None:
    """The text if all of it can be read; a crawler's size limit may have cut the last character."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(content, final=False)
    except UnicodeError:
        return None


def _guess(content: bytes) -> str:
    from resiliparse.parse.encoding import detect_encoding

    found = detect_encoding(content, html5_compatible=False)
    return _codec(found) if found else ""


def _codec(label: str) -> str:
    """Python's codec for an encoding's name, '' if there is none."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    name = map_encoding_to_html5(label, fallback_utf8=False)
    if name is None:
        try:
            name = codecs.lookup(label).name
        except LookupError:
            return ""
        # hex, zlib and the like are codecs too
        if not codecs.lookup(name)._is_text_encoding or name in _NO_ENCODINGS:
            return ""
    return _SUPERSETS.get(name, name)
