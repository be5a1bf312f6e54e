"""Identity, tax and account numbers, each with its own check digits."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from beam_pipelines.web.pii.context import in_web_address

_START = r"(?<![\w./=&?#%@$€£¥₹+-])"
_END = r"(?![\w%@])(?![.,-]\d)"


class IdNumber(NamedTuple):
    """A kind of number: how it is written, and whether it can be one (spaces and punctuation taken out)."""

    pattern: re.Pattern[str]
    valid: Callable[[str], bool]


def find_id_numbers(text: str, start: int, end: int, kinds: Collection[str]) -> Iterator[tuple[int, int]]:
    """(start, end) of the numbers of the given kinds (keys of `ID_NUMBERS`, and iban) in a part of `text`."""
    for kind in kinds:
        if kind == "iban":
            yield from _find_ibans(text, start, end)
            continue
        pattern, valid = ID_NUMBERS[kind]
        for match in pattern.finditer(text, start, end):
            if valid(re.sub(r"[\W_]", "", match[0])) and not in_web_address(text, match.start()):
                yield match.span()


def iso7064_11_2(digits: str) -> str:
    """Check character, 0 to 9 or X (ISO 7064 MOD 11-2). Example: "11010519491231002" -> "X"."""
    total = 0
    for digit in digits:
        total = (total + int(digit)) * 2 % 11
    return "0123456789X"[(12 - total) % 11]


def iso7064_11_10(digits: str) -> str:
    """Check digit (ISO 7064 MOD 11,10). Example: "8609574271" -> "9"."""
    product = 10
    for digit in digits:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return str((11 - product) % 10)


def verhoeff(digits: str) -> bool:
    """Whether the last digit checks the others (Verhoeff 1969): products in the dihedral group of the pentagon.

    Example: "2363" -> True.
    """
    check = 0
    for place, digit in enumerate(reversed(digits)):
        permuted = int(digit)
        for _ in range(place % 8):
            permuted = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[permuted]
        check = _dihedral(check, permuted)
    return check == 0


def _dihedral(a: int, b: int) -> int:
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5


# Two digits of the province or region a Chinese number begins with (GB/T 2260).
_PROVINCES = frozenset(map(str, [*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55)]))
_PROVINCES |= frozenset(map(str, [*range(61, 66), 71, 81, 82, 83]))


def _chinese_resident(number: str) -> bool:
    """GB 11643-1999: region, date of birth, sequence, check character."""
    if number[:2] not in _PROVINCES or number[-1].upper() != iso7064_11_2(number[:17]):
        return False
    try:
        born = datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return 1900 <= born.year <= 2050


def _social_security(number: str) -> bool:
    """US: no check digit, but areas 000, 666 and from 900, group 00 and serial 0000 are never given."""
    return number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"


def _spanish(number: str) -> bool:
    """DNI and NIE: the letter is the number modulo 23; X, Y, Z stand for 0, 1, 2."""
    digits = number[:-1].upper().translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == number[-1].upper()


def _brazilian(number: str) -> bool:
    """CPF: two digits, each the weighted sum of those before it modulo 11."""
    if len(set(number)) == 1:
        return False
    for count in (9, 10):
        total = sum(int(digit) * (count + 1 - place) for place, digit in enumerate(number[:count]))
        if int(number[count]) != total * 10 % 11 % 10:
            return False
    return True


def _aadhaar(number: str) -> bool:
    """India: 12 digits, the first from 2 on; three years in a row are none."""
    return verhoeff(number) and not all(number[place : place + 2] in ("19", "20") for place in (0, 4, 8))


def _german_tax(number: str) -> bool:
    """Steuer-ID: one of the first ten digits stands there twice or three times, the others at most once."""
    counts = sorted((number[:10].count(digit) for digit in set(number[:10])), reverse=True)
    return counts[0] in (2, 3) and counts[1] == 1 and number[10] == iso7064_11_10(number[:10])


def _french(number: str) -> bool:
    """NIR: the last two digits are 97 less the rest modulo 97; 2A and 2B (Corsica) count as 19, 18."""
    month = int(number[3:5])  # of birth; from 20 on where it is not known
    if not (1 <= month <= 12 or 20 <= month <= 42 or month >= 50):
        return False
    digits = number[:13].upper().replace("2A", "19").replace("2B", "18")
    return int(number[13:]) == 97 - int(digits) % 97


_ODD = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)))
_ODD |= dict(zip("ABCDEFGHIJ", _ODD.values()))
_ODD |= dict(zip("KLMNOPQRSTUVWXYZ", (2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)))


def _italian(number: str) -> bool:
    """Codice fiscale (D.M. 12 March 1974): values of the odd and the even places modulo 26 give the last letter."""
    total = sum(map(_ODD.__getitem__, number[:15:2]))
    total += sum(int(c) if c.isdigit() else ord(c) - ord("A") for c in number[1:15:2])
    return number[15] == chr(ord("A") + total % 26)


def _id(pattern: str, valid: Callable[[str], bool]) -> IdNumber:
    return IdNumber(re.compile(_START + pattern + _END, re.ASCII), valid)


ID_NUMBERS = {
    "br": _id(r"\d{3}\.\d{3}\.\d{3}-\d{2}", _brazilian),
    "cn": IdNumber(re.compile(r"(?<![A-Za-z\d./=-])\d{17}[\dXx](?![A-Za-z\d])"), _chinese_resident),
    "de": _id(r"(?:[1-9]\d{10}|(?<!\d )[1-9]\d(?: \d{3}){3}(?! \d))", _german_tax),
    "es": _id(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]", _spanish),
    "fr": _id(r"[12](?:\d{4}(?:\d\d|2[AB])\d{8}|(?<!\d .) \d\d \d\d (?:\d\d|2[AB]) \d{3} \d{3} \d\d(?! \d))", _french),
    "in": _id(r"(?<!\d )[2-9]\d{3}([ -])\d{4}\1\d{4}(?! \d)", _aadhaar),
    "it": _id(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", _italian),
    "us": _id(r"(?:\d{3}-\d{2}-\d{4}|(?<!\d )\d{3} \d{2} \d{4}(?! \d))", _social_security),
}

_LENGTHS = (  # of IBANs, with their letters (SWIFT's registry)
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 "
    "FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 "
    "LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 "
    "SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _LENGTHS.split()}
_IBAN = re.compile(r"(?<![\w/=])[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}", re.ASCII)


def _find_ibans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text, start, end):
        length = IBAN_LENGTHS.get(match[0][:2], 0)
        places = [place for place in range(*match.span()) if text[place] != " "]
        if not length or len(places) < length:
            continue
        stop = places[length - 1] + 1  # what follows in capitals after a space is another word
        if not text[stop : stop + 1].isalnum() and iban(match[0][: stop - match.start()].replace(" ", "")):
            yield match.start(), stop


def iban(number: str) -> bool:
    """Whether an IBAN, without spaces, has the right check digits (ISO 7064 MOD 97-10).

    Example: "DE89370400440532013000" -> True.
    """
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1
