"""Payment card numbers: issuers' prefixes and lengths (ISO/IEC 7812, Wikipedia's table of them) and Luhn's digit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from beam_pipelines.web.pii.context import in_web_address

# Written in one piece, in groups of four with a rest, or as American Express (4-6-5) and Diners Club (4-6-4) do.
_CARD = re.compile(
    r"[1-9](?<![\w.,/=&?#%@$€£¥₹+-].)"
    r"(?:\d{11,18}(?!-?\d)"
    r"|(?<!\d[ -].)\d{3}([ -])(?:\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{6}\1\d{4,5})(?![ -]?\d))"
    r"(?![\w%@])(?![.,]\d)",
    re.ASCII,
)
_ISSUERS = (  # first prefix, last prefix, lengths
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "659", (16, 17, 18, 19)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("300", "305", (14,)),  # Diners Club
    ("36", "36", (14,)),
    ("38", "39", (14,)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("6759", "6759", (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("6761", "6763", (12, 13, 14, 15, 16, 17, 18, 19)),
)


def find_cards(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the card numbers in a part of `text`."""
    for match in _CARD.finditer(text, start, end):
        digits = match[0].replace(" ", "").replace("-", "")
        if _issued(digits) and luhn(digits) and not in_web_address(text, match.start()):
            yield match.span()


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B).

    Example: "4111111111111111" -> True.
    """
    total = sum(map(int, digits[-1::-2]))
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


def _issued(digits: str) -> bool:
    return any(low <= digits[: len(low)] <= high and len(digits) in lengths for low, high, lengths in _ISSUERS)
