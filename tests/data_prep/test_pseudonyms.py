"""Pseudonyms are consistent, valid, of the same form and never the value; the key is never written."""

import json
import pickle
import random
from typing import Any

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban as standard_iban
from stdnum import luhn

from data_prep.curation.pii import fakes, national
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii
from data_prep.curation.pii.key import VARIABLE, Stream, key_check, read_key
from data_prep.curation.pii.network import is_fictional
from data_prep.curation.pii.pseudonyms import Pseudonyms
from data_prep.curation.pii.scrub import Scrubber
from data_prep.errors import DataError

KEY = b"0123456789abcdef0123456789abcdef"
CONFIG = Pii()
FAKES = Pseudonyms(KEY, CONFIG.phone_regions)
SCRUBBER = Scrubber(CONFIG, FAKES)
CARD = "4111 1111 1111 1111"


def scrub(text: str) -> str:
    row = SCRUBBER.apply({"id": "1", "text": text}).row
    assert row
    return row["text"]


def shape(text: str) -> str:
    return "".join("9" if each.isdigit() else "A" if each.isupper() else each for each in text)


def test_cards_stay_cards_of_their_issuer() -> None:
    draw = random.Random(1)
    values = {"".join(draw.choice("0123456789") for _ in range(11)) for _ in range(500)}
    cards = [body + luhn.calc_check_digit(body) for body in ("4111" + each for each in sorted(values))]
    pseudonyms = [FAKES.replace("card", "", each) for each in cards]
    assert all(luhn.is_valid(each) and each[:4] == "4111" and len(each) == 16 for each in pseudonyms)
    assert len(set(pseudonyms)) == len(cards)
    assert shape(FAKES.replace("card", "", CARD)) == shape(CARD)


@pytest.mark.parametrize(
    "value",
    [
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "FR1420041010050500013M02606",
        "ES9121000418450200051332",
    ],
)
def test_ibans_stay_valid(value: str) -> None:
    pseudonym = FAKES.replace("iban", value[:2], value)
    assert standard_iban.is_valid(pseudonym)
    assert (pseudonym[:2], shape(pseudonym)) == (value[:2], shape(value))
    assert pseudonym != value


@pytest.mark.parametrize("rule", sorted(national.RULES))
def test_national_numbers_stay_valid_and_distinct(rule: str) -> None:
    forms = {
        "gb_nino": "AB123456C",
        "fr_nir": "2" * 15,
        "es_dni": "12345678Z",
        "es_nie": "X1234567L",
        "it_codicefiscale": "A" * 16,
    }
    digits = {
        "us_ssn": 9,
        "gb_nhs": 10,
        "de_idnr": 11,
        "nl_bsn": 9,
        "pl_pesel": 11,
        "br_cpf": 11,
        "ca_sin": 9,
        "in_aadhaar": 12,
        "au_tfn": 9,
    }
    form = forms.get(rule) or "9" * digits[rule]
    originals = [fakes.national_id(Stream(b"other", rule, str(each)), rule, form) for each in range(60)]
    pseudonyms = [FAKES.replace("national_id", rule, each) for each in originals]
    assert all(national.is_valid(rule, each) for each in pseudonyms)
    assert len(set(pseudonyms)) == len(set(originals)) == 60
    assert all(new != old for new, old in zip(pseudonyms, originals, strict=True))


@pytest.mark.parametrize(
    ("value", "region"),
    [
        ("+44 20 7123 4567", "GB"),
        ("(212) 736-5000", "US"),
        ("+49 30 901820", "DE"),
        ("+33 1 42 68 53 00", "FR"),
        ("+81 3-3224-5000", "JP"),
        ("+55 11 91234-5678", "BR"),
        ("+91 98765 43210", "IN"),
        ("+61 2 9374 4000", "AU"),
    ],
)
def test_phones_stay_valid_numbers_of_their_country(value: str, region: str) -> None:
    pseudonym = scrub(f"call {value}").removeprefix("call ")
    number = phonenumbers.parse(pseudonym, region)
    assert phonenumbers.is_valid_number(number)
    assert phonenumbers.region_code_for_number(number) == region
    assert pseudonym != value
    assert shape(pseudonym) == shape(value)
    if region in ("GB", "US", "FR", "AU"):
        assert find_pii(f"call {pseudonym}", CONFIG) == []


def test_one_number_has_one_pseudonym_however_it_is_written() -> None:
    ways = ["+1 212-736-5000", "(212) 736-5000", "212.736.5000", "tel 2127365000", "+1 (212) 736 5000"]
    assert len({"".join(filter(str.isdigit, scrub(way)))[-10:] for way in ways}) == 1
    british = ["+44 20 7123 4567", "+44 (0)20 7123 4567", "phone 020 7123 4567"]
    assert len({"".join(filter(str.isdigit, scrub(way)))[-10:] for way in british}) == 1
    assert scrub("GB82 WEST 1234 5698 7654 32").replace(" ", "") == scrub("GB82WEST12345698765432")
    assert scrub("Bob.Jones@Web.de") == scrub("bob.jones@web.DE")


def test_mail_addresses_look_real_and_belong_to_nobody() -> None:
    first, second = scrub("maria.gonzalez42@acme-corp.de"), scrub("li.wei@acme-corp.de")
    local, domain = first.split("@")
    assert local.count(".") == 1 and local[-2:].isdigit() and local.replace(".", "")[:-2].isalpha()
    assert domain.endswith(("example.com", "example.net", "example.org"))
    assert second.split("@")[1] == domain
    assert len({scrub(f"person{number}@web.de") for number in range(300)}) == 300


@pytest.mark.parametrize("value", ["8.8.4.4", "2a00:1450:4001:81b::200e"])
def test_addresses_become_documentation_addresses(value: str) -> None:
    assert is_fictional(scrub(value))


def test_ip_pseudonyms_differ_on_a_small_sample() -> None:
    assert len({scrub(f"8.8.4.{number}") for number in range(30)}) == 30


def test_secrets_keep_what_names_the_provider() -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8"
    pseudonym = scrub(token)
    assert pseudonym[:4] == "ghp_" and len(pseudonym) == len(token) and pseudonym != token
    jwt = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    assert [span.rule for span in find_pii(scrub(jwt), CONFIG)] == ["jwt"]
    block = "-----BEGIN PRIVATE KEY-----\n" + "MIIEow+/\n" * 20 + "-----END PRIVATE KEY-----"
    assert scrub(block).startswith("-----BEGIN PRIVATE KEY-----\n") and scrub(block).endswith(
        "\n-----END PRIVATE KEY-----"
    )
    assert "MIIEow" not in scrub(block)
    assert "s3cret" not in scrub("https://bob:s3cret@web.de/") and scrub("https://bob:s3cret@web.de/").endswith(
        "@web.de/"
    )


def test_the_same_everywhere_in_a_row_and_between_rows() -> None:
    mail, fake = "bob@web.de", scrub("bob@web.de")
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "pay", "arguments": json.dumps({"to": mail, "card": 4111111111111111})},
    }
    row: dict[str, Any] = {
        "id": "x",
        "source": f"{mail}",
        "messages": [
            {"role": "user", "content": f"I am {mail}"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": mail}]},
        ],
        "chosen": f"Yes, {mail}",
        "rejected": [{"role": "assistant", "content": f"No, {mail}"}],
    }
    before = json.dumps(row)
    scrubbed = SCRUBBER.apply(row)
    assert json.dumps(row) == before
    assert scrubbed.row and scrubbed.counts == {"card": 1, "email": 5}
    clean = scrubbed.row
    assert clean["source"] == mail
    assert clean["chosen"] == f"Yes, {fake}" and clean["rejected"][0]["content"] == f"No, {fake}"
    assert clean["messages"][0]["content"] == f"I am {fake}" and clean["messages"][2]["content"][0]["text"] == fake
    arguments = json.loads(clean["messages"][1]["tool_calls"][0]["function"]["arguments"])
    assert arguments["to"] == fake
    assert luhn.is_valid(str(arguments["card"])) and arguments["card"] != 4111111111111111
    assert clean["messages"][1]["tool_calls"][0]["id"] == "call_1"


def test_arguments_stay_json_under_masks() -> None:
    mask = Scrubber(Pii(action="mask"))
    arguments = '{"ssn": "123456789", "card": 4111111111111111, "a@web.de": 1, "b@web.de": 2, "note": "x\\u0040web.de"}'
    row = mask.apply(
        {"id": "1", "messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}]}
    ).row
    assert row
    parsed = json.loads(row["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert parsed == {"ssn": "[NATIONAL_ID]", "card": "[CARD]", "[EMAIL]": 1, "[EMAIL] 2": 2, "note": "[EMAIL]"}
    untouched = '{"a":1,  "b": [true, null]}'
    row = mask.apply({"id": "1", "messages": [{"role": "assistant", "arguments": untouched}]}).row
    assert row and row["messages"][0]["arguments"] == untouched
    row = mask.apply({"id": "1", "messages": [{"role": "assistant", "arguments": '{"broken": bob@web.de'}]}).row
    assert row and row["messages"][0]["arguments"] == '{"broken": [EMAIL]'


def test_keys_decide() -> None:
    other = Pseudonyms(b"another key, as long as the other", CONFIG.phone_regions)
    same = Pseudonyms(KEY, CONFIG.phone_regions)
    assert FAKES.replace("card", "", CARD) == same.replace("card", "", CARD) != other.replace("card", "", CARD)


def test_pseudonyms_do_not_change_between_releases() -> None:
    assert key_check(KEY) == FAKES.check
    assert (scrub("bob@web.de"), scrub(CARD)) == ("elenamorberg@talquistgroup.example.net", "4111 3344 5209 7661")


def test_the_key_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY.decode())
    assert read_key() == read_key(key_check(KEY)) == KEY
    with pytest.raises(
        DataError, match=r"^PROVETUNE_PSEUDONYM_KEY: another key \(check [0-9a-f]{16}\) than the one used"
    ) as error:
        read_key("0" * 16)
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(DataError, match="^PROVETUNE_PSEUDONYM_KEY: 5 characters, at least 16 are needed; make one"):
        read_key()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(DataError, match="^PROVETUNE_PSEUDONYM_KEY: not set, but .* make one with python"):
        read_key()
    assert KEY.decode() not in str(error.value) + repr(FAKES) + str(vars(FAKES))
    assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="never written"):
        pickle.dumps(FAKES)
    with pytest.raises(DataError, match="pii: action pseudonym without a key"):
        Scrubber(CONFIG)


def test_a_kind_without_pseudonyms_is_an_error() -> None:
    with pytest.raises(DataError, match=r"pii\.person: has no pseudonyms; use action: mask"):
        FAKES.replace("person", "", "Maria")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10**9))
def test_draws_are_even_and_fixed(seed: int, limit: int) -> None:
    draws = [Stream(KEY, str(seed)).below(limit) for _ in range(2)]
    assert draws[0] == draws[1] and 0 <= draws[0] < limit


def test_no_value_is_its_own_pseudonym(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["8.8.4.4", "192.0.2.9"])
    monkeypatch.setattr(fakes, "ip", lambda stream, address: next(answers))
    assert Pseudonyms(KEY, []).replace("ip", "v4", "8.8.4.4") == "192.0.2.9"
