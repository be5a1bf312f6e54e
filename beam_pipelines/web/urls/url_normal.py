"""One spelling per page address: what URL deduplication compares, and the host that URL filters look up."""

from __future__ import annotations

import re
from urllib.parse import quote

# Parameters that say how a visitor came, or which visit it is, and not which page it is; names are lower case.
TRACKING_PREFIXES = ("utm_", "mtm_", "pk_", "hsa_", "vero_", "mc_", "oly_", "_hs", "at_custom")
TRACKING_PARAMETERS = frozenset(
    {
        *("gclid", "gclsrc", "dclid", "gbraid", "wbraid", "fbclid", "msclkid", "yclid", "ysclid", "twclid", "ttclid"),
        *("igshid", "igsh", "li_fat_id", "mkt_tok", "epik", "rdt_cid", "wickedid", "srsltid", "gad_source"),
        *("_ga", "_gl", "_openstat", "__twitter_impression", "wt_mc", "wt_zmc", "cmpid", "s_kwcid", "zanpid"),
        *("phpsessid", "jsessionid", "aspsessionid"),
    }
)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986, 2.3

# Most addresses of a crawl; what it matches is what the long way gives, ten times faster.
_PLAIN_HOST = re.compile(r"https?://(?:www\.)?((?:[a-z0-9_-]+\.)+[a-z0-9_-]+)(?=[/?]|$)")
_BEFORE_HOST = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:[/\\]{2,}|[\x00-\x20/\\]+)+")
_AUTHORITY = re.compile(r"[^/\\?#]*")
_HOST_END = re.compile(r"(?:[.\x00-\x20]|:(?:80|443)?)+$")
_DOT_BEFORE_PORT = re.compile(r"\.+(?=:\d+$)")
_PORT = re.compile(r":\d+$")
_SESSION = re.compile(r";(?:jsessionid|phpsessid)=[^/;]*", re.IGNORECASE)
_TO_RESPELL = re.compile(r"%([0-9a-fA-F]{2})?|[^\x21-\x7e]")
_LONGEST_AUTHORITY = 2000  # names have at most 253 characters (RFC 1035)
_HOST_SAFE = "@[]:%!$&'()*+,;=~"
_BLANKS = "".join(map(chr, range(33)))
_LINE_BREAKS = str.maketrans("", "", "\t\r\n")


def normalise_url(url: str) -> str:
    """The address without what does not change the page.

    Dropped: scheme, user and password, `www.`, ports 80 and 443, a dot behind the host, `.` and `..` segments, slashes
    at the end of the path, fragment, tracking and session parameters. Respelt: host in lower case and punycode, the
    rest of the parameters sorted, percent-encoding as in RFC 3986, 6.2.2. Applying it twice changes nothing more.
    Any string is accepted; an address without a scheme is taken as one that starts with its host.

    Example: "HTTPS://user@www.Example.com:443/a/../b/?utm_source=x&z=1&a=%7e#top" -> "example.com/b?a=~&z=1".
    """
    authority, rest = split_url(url)
    host = normalise_authority(authority)
    before_query, _, query = rest.partition("?")
    path = before_query.replace("\\", "/")
    if not host and path.strip("/"):
        return normalise_url(rest)  # "http:///a/b": browsers take the first segment for the host
    path = _respelt(_without_dots(_respelt(_SESSION.sub("", path)))).rstrip("/")
    pieces = sorted(piece for piece in _respelt(query).split("&") if piece and not _is_tracking(piece))
    return f"{host}{path}?{'&'.join(pieces)}" if pieces else host + path


def normalise_host(url: str) -> str:
    """The address's host in lower case and punycode, without user, port, `www.` and dots at its ends; '' if none.

    Example: "http://me@WWW.Bücher.example.:8080/a" -> "xn--bcher-kva.example".
    """
    if (plain := _PLAIN_HOST.match(url)) and not plain.group(1).startswith("www."):
        return plain.group(1)
    return _PORT.sub("", normalise_authority(split_url(url)[0]))


def split_url(url: str) -> tuple[str, str]:
    """(authority, what follows it without the fragment), scheme dropped, as browsers split web addresses.

    Example: "http://user@x.org:80/a?b#c" -> ("user@x.org:80", "/a?b").
    """
    url = url.translate(_LINE_BREAKS).partition("#")[0]
    start = found.end() if (found := _BEFORE_HOST.match(url)) else 0
    match = _AUTHORITY.match(url, start)
    assert match is not None  # it matches nothing at all, too
    return match.group(), url[match.end() :].rstrip(_BLANKS)


def normalise_authority(authority: str) -> str:
    """Host, and the port unless it is 80 or 443.

    Example: "user:password@WWW.Example.com.:8080" -> "example.com:8080".
    """
    if len(authority) > _LONGEST_AUTHORITY:  # nothing that a name server would know: kept as it is
        return quote(authority.lower(), safe=_HOST_SAFE, errors="replace").lower()
    host = authority.rpartition("@")[2]
    host = host.lower() if host.isascii() else _punycode(host)
    while True:
        before = host
        host = _DOT_BEFORE_PORT.sub("", _HOST_END.sub("", host)).lstrip("." + _BLANKS)
        if host.startswith("www.") and "." in host[4:]:  # www.com is a site of its own
            host = host[4:]
        if host == before:
            return host


def _punycode(host: str) -> str:
    """Every label as browsers send it (UTS 46); what is no valid name is percent-encoded."""
    import idna

    name, port = (host[: found.start()], found.group()) if (found := _PORT.search(host)) else (host, "")
    try:
        encoded = idna.encode(name, uts46=True).decode("ascii").lower()
        if encoded.replace("-", "").replace(".", "").replace("_", "").isalnum():
            return encoded + port
    except (idna.IDNAError, UnicodeError):
        pass
    return quote(host.lower(), safe=_HOST_SAFE, errors="replace").lower()


def _respelt(text: str) -> str:
    """Percent-encoding in one spelling: unreserved characters bare, everything else encoded, digits in upper case."""
    if text.isascii() and "%" not in text and " " not in text and text.isprintable():
        return text
    return _TO_RESPELL.sub(_respell, text)


def _respell(match: re.Match[str]) -> str:
    found = match.group()
    if found == "%":  # a percent sign that encodes nothing
        return "%25"
    if found[0] == "%":
        character = chr(int(found[1:], 16))
        return character if character in _UNRESERVED else found.upper()
    return quote(found, safe="", errors="replace")


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4, on a path that starts with a slash. Example: "/a/./b/../c" -> "/a/c"."""
    if "/." not in path:
        return path
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


def _is_tracking(piece: str) -> bool:
    name = piece.partition("=")[0].lower()
    return name in TRACKING_PARAMETERS or name.startswith(TRACKING_PREFIXES)
