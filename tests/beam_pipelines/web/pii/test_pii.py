"""Personal data: what is replaced, what looks like it and stays, and that once is enough."""

import itertools
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.pii.anonymise import PLACEHOLDERS, AnonymisePii
from beam_pipelines.web.pii.context import dense_stretches
from t5x_style.errors import UserError

STAGE = AnonymisePii()
EVERYWHERE = AnonymisePii(regions=("US", "GB", "DE", "FR", "ES", "CN", "IN", "BR", "RU", "JP"))


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.doe+x@mail.example.co.uk.", "Write to <EMAIL>."),
        ("<a@b.org>,c_d@E-F.COM;mailto:x@y.de?subject=z", "<<EMAIL>>,<EMAIL>;mailto:<EMAIL>?subject=z"),
        ("请联系abc@example.com咨询", "请联系<EMAIL>咨询"),
        ("почта@пример.рф и jörg@müller.de", "<EMAIL> и <EMAIL>"),
        ("ask a@b.com.Then go", "ask <EMAIL>.Then go"),
        ("server 8.8.8.8, http://93.184.216.34:8080/x", "server <IP_ADDRESS>, http://<IP_ADDRESS>:8080/x"),
        ("at 8.8.4.4/24 and 2001:4860:4860::8888.", "at <IP_ADDRESS>/24 and <IP_ADDRESS>."),
        ("[2a00:1450:4009:0815:0000:0000:0000:200e]:443", "[<IP_ADDRESS>]:443"),
        ("card 4111 1111 1111 1111 expires", "card <CARD> expires"),
        ("4111111111111111 5555555555554444", "<CARD> <CARD>"),
        ("amex 3782-822463-10005", "amex <CARD>"),
        ("Visa:4111-1111-1111-1111", "Visa:<CARD>"),
        ("6011111111111117, 3530111333300000, 30569309025904", "<CARD>, <CARD>, <CARD>"),
        ("身份证号11010519491231002X。", "身份证号<ID_NUMBER>。"),
        ("SSN: 536-90-4399", "SSN: <ID_NUMBER>"),
        ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF", "IBAN <ID_NUMBER> BIC COBADEFF"),
        ("GB29NWBK60161331926819; MT84 MALT 0110 0001 2345 MTLC AST0 01S", "<ID_NUMBER>; <ID_NUMBER>"),
        ("FR14 2004 1010 0505 0001 3M02 606, NO9386011117947", "<ID_NUMBER>, <ID_NUMBER>"),
        ("DNI 12345678Z, NIE X-1234567-L", "DNI <ID_NUMBER>, NIE <ID_NUMBER>"),
        ("CPF 529.982.247-25", "CPF <ID_NUMBER>"),
        ("आधार 2341 2341 2346 है", "आधार <ID_NUMBER> है"),
        ("IdNr. 86 095 742 719 und 86095742719", "IdNr. <ID_NUMBER> und <ID_NUMBER>"),
        ("NIR 2 55 08 14 168 025 38", "NIR <ID_NUMBER>"),
        ("codice RSSMRA85T10A562S", "codice <ID_NUMBER>"),
        ("Call (415) 555-2671 now", "Call <PHONE> now"),
        ("415.555.2671 or 1-800-555-0199, ext. 12.", "<PHONE> or <PHONE>."),
        ("+14155552671 +44 20 7946 0958 / +86 138 0013 8000", "<PHONE> <PHONE> / <PHONE>"),
        ("(+49) 30 901820 and +55 (11) 98765-4321", "<PHONE> and <PHONE>"),
        ("phone: 4155552671; Tel 415 555 2671", "phone: <PHONE>; Tel <PHONE>"),
        ("WhatsApp:+919876543210", "WhatsApp:<PHONE>"),
        ("٤١٥-٥٥٥-٢٦٧١", "<PHONE>"),
        ("on 2024-05-01 call 415-555-2671, a@b.org, 8.8.8.8", "on 2024-05-01 call <PHONE>, <EMAIL>, <IP_ADDRESS>"),
        ("x@y.org415-555-2671", "<EMAIL><PHONE>"),
        ("a\ud800b a@b.org \0 8.8.8.8", "a\ud800b <EMAIL> \0 <IP_ADDRESS>"),
    ],
)
def test_replaced(text, expected):
    assert STAGE.anonymise(text)[0] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("手机：13800138000，电话010-62345678", "手机：<PHONE>，电话<PHONE>"),
        ("Tel. 030 901820, Mobil 0171 1234567", "Tel. <PHONE>, Mobil <PHONE>"),
        ("tél : 01 70 36 39 50", "tél : <PHONE>"),
        ("Teléfono 612 345 678", "Teléfono <PHONE>"),
        ("тел. 8 (495) 123-45-67", "тел. <PHONE>"),
        ("फोन 98765 43210, 03-1234-5678", "फोन <PHONE>, <PHONE>"),
    ],
)
def test_telephones_of_other_regions(text, expected):
    assert EVERYWHERE.anonymise(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "no numbers and nobody",
        "@someone wrote to @another, a @ b, user@localhost, me@, @x.org",
        "logo@2x.png and git@github.com:a/b.git, npm i left-pad@1.3.0",
        "version 1.2.3.4, v8.8.8.8, V. 8.8.8.8, Chrome/8.8.8.8, section 8.8.8.8, release 4.15.0.72-generic",
        "1.3.6.1.4.1.311 and 8.8.8.8.8, 256.1.1.1, 01.02.03.04, 8.8.8",
        "127.0.0.1, 192.168.1.100, 10.0.255.255, 203.0.113.195, 224.0.0.1, 0.0.0.0, 255.255.255.0",
        "at 12:30:45, std::vector, abc::def, ::1, fe80::1, 2001:db8::1, 10:20:30:40",
        "4111 1111 1111 1112, 1234 5678 9012 3456, 9111111111111111, 411111111111111",
        "https://a.com/4111111111111111/p?id=4155552671 www.b.org/415-555-2671 c.net/536-90-4399",
        "110105194912310021, 110105199913310025",
        "000-12-3456, 666-12-3456, 912-12-3456, 536-00-4399, 536-90-0000, 536-904-399",
        "DE88370400440532013000, XX89370400440532013000, CONFERENCE 2024 ROOM 1234 5678 9012",
        "12345678A, 529.982.247-24, 111.111.111-11, 2341 2341 2345, 2001 2005 2010",
        "86 095 742 718, 2 55 08 14 168 025 39, RSSMRA85T10A562T",
        "2024-05-01, 01/05/2024, 05.01.2024 12:30:45, 2024-05-01T12:30:45.123Z, 20240501123045, 1999-2004",
        "2019-20-2021, 2010-2011-2012-2013",
        "$1,234,567.89, 1.234.567,89 €, 12 345 678 people, USD 4155552671.00, 3.14159265358979, 1e-10, 99.9999999%",
        "ISBN 978-3-16-148410-0, ISBN-10: 3-16-148410-0, ISBN 3161484100, ISSN 0378-5955, EAN 4006381333931",
        "order 415-555-2671, item no. 4155552671, id 4155552671, arXiv:2312.11805, doi:10.1000/4155552671",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0xdeadbeef12345678",
        "550e8400-e29b-41d4-a716-446655440000, sha1 4155552671415555267141555526714155552671",
        "ping :8080 localhost:415555, 1920x1080, 600/800/1000, 3/4/2024, 100-200-3000, 1 2 3 4 5 6 7 8 9 10 11 12",
        "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0, 1111111111, 0000000000, 123-456-7890",
        "lat 37.774929, -122.419416; 40°26′46″N; 1:10 000 000; 5-4-3-2-1-0-0-0",
        "2018年5月1日、第1234567号，人口12345678人，共2023-2024学年",
        "<EMAIL> <PHONE> <IP_ADDRESS> <CARD> <ID_NUMBER>",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert STAGE.anonymise(text) == (text, {})


def test_private_addresses_on_request():
    stage = AnonymisePii(public_addresses_only=False)
    assert stage.anonymise("192.168.1.1, 127.0.0.1, fe80::1, v1.2.3.4, 12:30:45, 256.1.1.1")[0] == (
        "<IP_ADDRESS>, <IP_ADDRESS>, <IP_ADDRESS>, v1.2.3.4, 12:30:45, 256.1.1.1"
    )


def test_kinds_placeholders_and_counts():
    text = "a@b.org c@d.org 8.8.8.8 4111111111111111 536-90-4399 (415) 555-2671"
    assert STAGE.anonymise(text) == (
        "<EMAIL> <EMAIL> <IP_ADDRESS> <CARD> <ID_NUMBER> <PHONE>",
        {"emails": 2, "ip_addresses": 1, "id_numbers": 1, "cards": 1, "phones": 1},
    )
    stage = AnonymisePii(kinds=["email", "card"], placeholders={"email": "", "card": "XXXX"})
    assert stage.anonymise(text)[0] == "  8.8.8.8 XXXX 536-90-4399 (415) 555-2671"
    assert AnonymisePii(id_numbers=["de"], kinds=["id_number"]).anonymise(text) == (text, {})
    assert AnonymisePii(regions=[]).anonymise("415-555-2671, +1 415-555-2671")[0] == "415-555-2671, <PHONE>"


def test_the_stage():
    outcome = STAGE.apply(document("Mail a@b.org"))
    assert (outcome.document.text, outcome.verdict, outcome.edits) == ("Mail <EMAIL>", KEEP, {"emails": 1})
    same = document("nothing here, 12 times in 2024")
    assert STAGE.apply(same).document is same
    assert pickle.loads(pickle.dumps(STAGE)) == STAGE


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kinds": ["emails"]}, "kinds has 'emails'"),
        ({"kinds": "email"}, "kinds has 'email'; it is a list"),
        ({"placeholders": {"mail": "X"}}, "placeholders has 'mail'"),
        ({"placeholders": {"email": "user@host.org"}}, "looks like personal data"),
        ({"placeholders": {"phone": "<PHONE1>"}}, "looks like personal data"),
        ({"id_numbers": ["uk"]}, "id_numbers has 'uk'"),
        ({"regions": "US"}, r"write \['US'\]"),
        ({"regions": ["usa"]}, "'usa' is no country"),
        ({"regions": ["ZZ"]}, "'ZZ' is no country"),
    ],
)
def test_impossible_parameters(parameters, message):
    with pytest.raises(UserError, match=message):
        AnonymisePii(**parameters)


FRAGMENTS = [
    *("a@b.org", "8.8.8.8", "4111111111111111", "4111 1111 1111 1111", "536-90-4399", "(415) 555-2671", "+14155552671"),
    *(
        "2001:4860:4860::8888",
        "DE89370400440532013000",
        "12345678Z",
        "2341 2341 2346",
        "2024",
        "1",
        "v",
        "x",
        ".",
        ",",
        "-",
    ),
    *(" ", " ", "/", "@", ":", "(", "+", "\n", "Tel ", "<", ">", "http://", "漢", "٤١٥-٥٥٥-٢٦٧١", "\ud800"),
]


@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=12))
def test_once_is_enough(fragments):
    once, _ = STAGE.anonymise("".join(fragments))
    assert STAGE.anonymise(once) == (once, {})


@given(st.text(alphabet="0123456789 .-()+@:/a\n٤漢", max_size=200))
def test_dense_stretches_hold_every_seven_close_digits(text):
    stretches = list(dense_stretches(text))
    assert all(0 <= start < end <= len(text) for start, end in stretches)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(stretches))
    digits = [place for place, character in enumerate(text) if character.isdigit()]
    for first in range(len(digits) - 6):
        if all(after - before <= 4 for before, after in zip(digits[first:], digits[first + 1 : first + 7])):
            assert any(start <= digits[first] and digits[first + 6] < end for start, end in stretches)


def test_long_texts_take_linear_time():
    numbers = random.Random(0)
    table = "\n".join(" ".join(str(numbers.randrange(10**6)) for _ in range(10)) for _ in range(2000))
    assert STAGE.anonymise(table)[1].keys() <= {"phones", "cards", "id_numbers"}
    for awkward in (
        "@" * 100_000,
        "a" * 300_000 + "@",
        "a." * 100_000 + "@b",
        "1." * 50_000,
        ":1" * 50_000,
        "1" * 100_000,
    ):
        assert STAGE.anonymise(awkward) == (awkward, {})


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *[(number, "id_number") for number in ("536-90-4399", "86095742719", "255081416802538", "RSSMRA85T10A562S")],
        *[(number, "id_number") for number in ("DE89370400440532013000", "529.982.247-25", "12345678Z")],
        *[
            ("8.8.8.8", "ip_address"),
            ("4111111111111111", "card"),
            ("a@b.org", "email"),
            ("2a00:1450::200e", "ip_address"),
        ],
        *[("415-555-2671", "phone"), ("+14155552671", "phone")],
    ],
)
@pytest.mark.parametrize("separator", [" ", ", ", "\n"])
def test_lists(number, kind, separator):
    count = 300
    name = "ip_addresses" if kind == "ip_address" else f"{kind}s"
    assert STAGE.anonymise((number + separator) * count) == ((PLACEHOLDERS[kind] + separator) * count, {name: count})
