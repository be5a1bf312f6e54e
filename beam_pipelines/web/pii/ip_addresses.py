"""IPv4 and IPv6 addresses, valid by the standard library's ipaddress."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

# What every address has in it; patterns that begin with a plain character are searched fastest.
_V4_CORE = re.compile(r"\.[0-9]{1,3}\.[0-9]")
_V4 = re.compile(r"(?<![\w.-])(?<![A-Za-z]/)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w%])(?!-[A-Za-z])(?!\.\w)")
_V6_CORE = re.compile(r":[0-9A-Fa-f]{0,4}:")
_V6 = re.compile(r"(?<![\w.:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])(?!\.\d)")
# "version 1.2.3.4", "v. 1.2.3.4", "section 1.2.3.4"
_VERSION = re.compile(
    r"(?:\b(?:v|ver|versions?|versión|release|rel|build|firmware|driver|rev|revision|section|chapter|clause|article)|§"
    r"|版本|版)[.:]?\s*\Z",
    re.IGNORECASE,
)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291, what IANA has given out of IPv6


def find_ip_addresses(text: str, public_only: bool) -> Iterator[tuple[int, int]]:
    """(start, end) of the IP addresses in `text`.

    Version and section numbers, times (12:30:45) and C++ names (abc::def) are none.
    """
    for match in _around(_V4_CORE, _V4, 3, text):
        if _valid(match[0], public_only) and not _VERSION.search(text, max(0, match.start() - 12), match.start()):
            yield match.span()
    for match in _around(_V6_CORE, _V6, 4, text):
        if any(map(str.isdigit, match[0])) and len(match[0]) > 4 and _valid(match[0], public_only):
            yield match.span()


def _around(core: re.Pattern[str], whole: re.Pattern[str], before: int, text: str) -> Iterator[re.Match[str]]:
    """Matches of `whole` that begin up to `before` characters ahead of a match of `core`."""
    end = 0
    for found in core.finditer(text):
        for start in range(max(end, found.start() - before), found.start() + 1):
            if match := whole.match(text, start):
                end = match.end()
                yield match
                break


def _valid(address: str, public_only: bool) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not public_only:
        return True
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_UNICAST:
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved
