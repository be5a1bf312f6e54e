"""Telephone numbers, valid by Google's metadata of all countries (phonenumbers, Apache-2.0).

Its matcher takes 0.1 to 0.3 ms per number it looks at, so it only sees what plain patterns leave.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from beam_pipelines.web.pii.context import in_web_address

_DASH = "\u2010-\u2015\uff0d-"
# Digits with up to three spaces, brackets, dots or dashes in between, as many as there are.
_CHAIN = re.compile(
    r"[(+\uff0b\uff08\d](?<![A-Za-z0-9_\u00c0-\u052f/=&?#%@$€£¥₹.,+-].)[+\uff0b]?"
    rf"(?:[ \u00a0.()/\uff08\uff09{_DASH}]{{0,3}}\d){{6,}}+"
)
# What a number without + and without a word before it must look like: three groups or a bracket.
_GROUPED = re.compile(
    rf"(?<![\d/.,$])(?:1[ {_DASH}])?\d{{1,5}}([./{_DASH}])\d{{2,5}}(?:\1\d{{2,5}}){{1,3}}(?![\d/{_DASH}])"
    rf"|(?:(?<!\d)\d{{1,3}}[ {_DASH}]?)?[(\uff08]\d{{1,5}}[)\uff09][ {_DASH}]?\d{{2,5}}"
    rf"(?:[ .{_DASH}]\d{{2,5}}){{1,3}}(?!\d)"
    r"|(?<!\d)(?<!\d[ \u00a0])\d{1,5}(?:[ \u00a0]\d{2,5}){2,4}(?![ \u00a0]?\d)"
)
_END = re.compile(r"(?![A-Za-z0-9_%@])(?![.,:]\d)")
_LONGEST = 40  # characters of a number with its separators
_EXTENSION = 24  # characters looked at after a number, for ", ext. 100"
# After these anything that can be a number is one.
_PHONE_WORD = re.compile(
    r"(?:\b(?:tele?(?:ph(?:one)?|fon[eo]?|fax)?|t[eé]l[eé]fonos?|t[eé]l|ph(?:one)?|mob(?:ile)?|cell?|call|fax|text|sms"
    r"|whatsapp|hotline|contact|handy|mobil|celular|cep|hp|toll[ -]free)\b"
    r"|тел|моб|звон|电话|電話|手机|手機|微信|联系|聯繫|携帯|전화|휴대폰|โทร|फोन|फ\u093cोन|मोबाइल|هاتف|جوال|تلفن)[^\n\d]{0,15}\Z",
    re.IGNORECASE,
)
_OTHER_NUMBER = re.compile(
    r"(?:isbn(?:-1[03])?|issn|doi|pmid|ean|upc|sku|asin|\bid|\bno|\bnr|order|item|invoice|rfc)[-\s.:#]*\Z",
    re.IGNORECASE,
)
_NOT_PHONE = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}"  # an address that is not public
    r"|(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ]\d.*"  # a date, perhaps with a time
    rf"|(?:(?:19|20)\d\d[ /{_DASH}]{{1,3}})+(?:19|20)?\d\d"  # years
    r"|[1-9]\d*(?:/\d+)+"  # 600/800/1000
    r"|(.)\1*"
)


def find_phones(text: str, start: int, end: int, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(start, end) of the telephone numbers in a part of `text`: with + of any country, others of the given regions.

    A number without + that no word such as "call" introduces must be written in the groups its country writes.
    """
    for chain in _CHAIN.finditer(text, start, end):
        place = chain.start()
        before = max(0, place - 30), place
        if "+" in chain[0][:3] or "\uff0b" in chain[0][:3]:
            found = list(_matches(text, place, chain.end(), (None,), strict=False))
        elif _PHONE_WORD.search(text, *before):
            found = list(_matches(text, place, chain.end(), regions, strict=False))
        elif _OTHER_NUMBER.search(text, *before):
            continue
        else:
            found = []
        yield from found
        for grouped in _GROUPED.finditer(text, found[-1][1] if found else place, chain.end()):
            if sum(map(str.isdigit, grouped[0])) in _lengths(tuple(regions)):
                yield from _matches(text, *grouped.span(), regions, strict=True)


def countries() -> frozenset[str]:
    """ISO 3166 codes of the countries whose numbers are known."""
    from phonenumbers import SUPPORTED_REGIONS

    return frozenset(SUPPORTED_REGIONS)


@functools.cache
def _lengths(regions: tuple[str, ...]) -> frozenset[int]:
    """How many digits national numbers have there, with and without the trunk prefix or the country's code."""
    from phonenumbers import PhoneMetadata, country_code_for_region

    lengths: set[int] = set()
    for region in regions:
        metadata: Any = PhoneMetadata.metadata_for_region(region)
        prefixes = {0, len(metadata.national_prefix or ""), len(str(country_code_for_region(region)))}
        lengths |= {length + prefix for length in metadata.general_desc.possible_length for prefix in prefixes}
    return frozenset(lengths)


def _matches(text: str, start: int, end: int, regions: Sequence[str | None], strict: bool) -> Iterator[tuple[int, int]]:
    """Numbers that begin in text[start:end], of the first region that has any; strict: grouped as in that country."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    leniency = Leniency.EXACT_GROUPING if strict else Leniency.VALID
    end = min(end, start + _LONGEST)
    part = text[start : end + _EXTENSION]
    for region in regions:
        found = [
            (start + match.start, start + match.end)
            for match in PhoneNumberMatcher(part, region, leniency=leniency)
            if start + match.start < end and _plausible(text, start + match.start, start + match.end)
        ]
        if found:
            yield from found
            return


def _plausible(text: str, start: int, end: int) -> bool:
    if not _END.match(text, end) or _NOT_PHONE.fullmatch(text, start, end):
        return False
    return not in_web_address(text, start)
