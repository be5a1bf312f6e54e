"""Encodings: what is declared, what the bytes say, and pages whose declaration is wrong."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web.archives.encoding import declarations, decode, looks_western

TEXTS = {
    "utf-8": "Grüße aus Köln, déjà vu, 日本語, Ελλάδα. ",
    "windows-1251": "Съешь же ещё этих мягких французских булок, да выпей чаю. ",
    "koi8-r": "Съешь же ещё этих мягких французских булок, да выпей чаю. ",
    "gb18030": "这是一个测试页面,用来检测编码是否正确。中文网页很多。",
    "big5": "這是繁體中文的測試頁面,用來檢測編碼。",
    "shift_jis": "これは日本語のテストページです。文字コードを検出します。",
    "euc-jp": "これは日本語のテストページです。文字コードを検出します。",
    "iso-2022-jp": "これは日本語のテストページです。文字コードを検出します。",
    "euc-kr": "이것은 한국어 시험 페이지입니다. 문자 인코딩을 감지합니다. ",
    "iso-8859-2": "Zażółć gęślą jaźń. Pchnąć w tę łódź jeża lub ośm skrzyń fig. ",
    "windows-1252": "Füße und Größe, déjà vu – “quoted” naïve façade, cœur. ",
    "iso-8859-7": "Καλημέρα κόσμε, αυτή είναι μια δοκιμή. ",
    "windows-1256": "هذا نص عربي للاختبار ",
}


def html(text, head=""):
    return f"<html><head><title>x</title>{head}</head><body><p>{text * 5}</p></body></html>"


@pytest.mark.parametrize("encoding", sorted(TEXTS))
def test_declared_by_the_header_or_by_the_page(encoding):
    text = TEXTS[encoding]
    assert text in decode(html(text).encode(encoding), encoding).text
    assert text in decode(html(text).encode(encoding), encoding.upper()).text
    for head in (
        f"<meta charset={encoding}>",
        f"<meta http-equiv='Content-Type' content='text/html; charset={encoding}'>",
        f'<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset={encoding}" />',
    ):
        assert text in decode(html(text, head).encode(encoding)).text
    xml = f'<?xml version="1.0" encoding="{encoding}"?>' + html(text)
    assert text in decode(xml.encode(encoding)).text


@pytest.mark.parametrize("encoding", sorted(TEXTS))
@pytest.mark.parametrize("declared", ["", "utf-8", "no-such-charset", "hex"])
def test_not_declared_or_wrongly(encoding, declared):
    assert TEXTS[encoding] in decode(html(TEXTS[encoding]).encode(encoding), declared).text
    wrong = f"<meta charset={declared or 'utf-8'}>"
    assert TEXTS[encoding] in decode(html(TEXTS[encoding], wrong).encode(encoding), declared).text


@pytest.mark.parametrize("encoding", sorted(set(TEXTS) - {"iso-8859-2"}))  # Polish letters look like French ones
def test_latin_1_that_a_server_sends_unasked_does_not_win(encoding):
    assert TEXTS[encoding] in decode(html(TEXTS[encoding]).encode(encoding), "iso-8859-1").text


def test_latin_1_means_windows_1252():
    content = html("“quoted” – Größe").encode("cp1252")
    assert decode(content, "iso-8859-1").encoding == "cp1252"
    assert "“quoted” – Größe" in decode(content, "iso-8859-1").text
    assert "“quoted” – Größe" in decode(content, "latin1").text


def test_the_wider_encoding_that_pages_mean():
    assert "镕" in decode(html("朱镕基是中国人。").encode("gbk"), "gb2312").text  # not in GB 2312
    assert "①" in decode(html("①これは日本語です。").encode("cp932"), "Shift_JIS").text
    assert "똠" in decode(html("똠방각하 한국어 페이지").encode("cp949"), "euc-kr").text


def test_the_header_goes_before_the_page():
    content = html("привет мир, как дела", "<meta charset=koi8-r>").encode("cp1251")
    assert decode(content, "windows-1251").encoding == "cp1251"
    assert decode(content).encoding == "koi8-r"  # both can be read; the page says so


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")]
)
def test_a_byte_order_mark_decides_and_goes(encoding, mark):
    text = html(TEXTS["utf-8"])
    found = decode(mark + text.encode(encoding), "windows-1251")
    assert found == (text, encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(encoding):
    assert decode(html(TEXTS["gb18030"]).encode(encoding), "utf-16") == (html(TEXTS["gb18030"]), encoding)
    # A page that can be read as ASCII is no UTF-16, whatever it says.
    assert decode(html("plain", "<meta charset=utf-16>").encode()).encoding == "utf-8"


def test_damaged_utf_8_stays_utf_8():
    content = html(TEXTS["utf-8"] * 20).encode().replace(b"K\xc3\xb6ln", b"K\xf6ln", 1)
    found = decode(content, "utf-8")
    assert found.encoding == "utf-8"
    assert found.text.count("\ufffd") == 1
    assert decode(content).encoding == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "shift_jis", "euc-kr"])
def test_a_page_cut_inside_a_character(encoding):
    text = TEXTS[encoding].strip().strip("。.") * 3
    content = text.encode(encoding)
    assert decode(content[:-1], encoding).text == text[:-1]


def test_what_cannot_be_read_is_marked():
    found = decode(b"<meta charset=euc-kr>" + bytes(range(0x80, 0x100)) * 3, "euc-kr")
    assert "\ufffd" in found.text
    assert decode(b"").text == ""
    assert decode(b"\0\0").text == "\0\0"


def test_western_text():
    assert looks_western("Füße naïve façade".encode("cp1252"))
    assert looks_western(b"only ascii")
    assert not looks_western("привет".encode("cp1251"))
    # Exactly half of the bytes beyond ASCII in runs of four is still Western; one more is not.
    assert looks_western(b"\xe4\xe4\xe4\xe4 \xe4 \xe4 \xe4 \xe4")
    assert not looks_western(b"\xe4\xe4\xe4\xe4 \xe4 \xe4 \xe4")


def test_declarations_in_order():
    content = b"<meta name=a content=b><meta charset='KOI8-R'><meta charset=big5>"
    assert declarations(content, " windows-1251; x ") == ["cp1251", "koi8-r"]
    assert declarations(content, "nonsense") == ["koi8-r"]
    assert declarations(b" " * 5000 + content, "") == []


@given(st.binary(max_size=300), st.sampled_from(["", "utf-8", "gbk", "utf-16", "iso-8859-1", "big5", "\0", "é"]))
def test_any_bytes_give_text(content, declared):
    found = decode(content, declared)
    assert content.decode(found.encoding, "replace").startswith(found.text[:1] or "")


@given(st.text(min_size=1))
def test_utf_8_is_read_back(text):
    if not text.encode("utf-8", "replace").startswith((b"\xff\xfe", b"\xfe\xff")) and "\0" not in text:
        valid = text.encode("utf-8", "replace").decode()
        if "\x1b" not in valid and not valid.startswith("\ufeff"):
            assert decode(valid.encode(), "gbk").text == valid


def test_large_pages_are_quick():
    start = time.process_time()
    decode(b"<p>" + "naïve ".encode("cp1252") * 2_000_000)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", ["undefined", "idna", "punycode", "unicode_escape", "raw-unicode-escape", "utf-7"])
def test_codecs_that_are_no_encodings_of_pages_count_as_none(name):
    """`undefined` and `idna` refuse to replace what they cannot read: the page was lost."""
    content = b"\xc9t\xe9 \x81 +AGE- \\u0041"
    assert decode(content, name) == decode(content)
