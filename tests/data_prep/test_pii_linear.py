"""No pattern can be made to hang: of every kind, on text made for it."""

import time

import pytest

from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import find_pii
from data_prep.curation.pii.kinds import KINDS

CONFIG = Pii(kinds=list(KINDS))
ADVERSARIAL = [
    "a@" * 9,
    "@" * 7,
    "a.-+" * 9,
    "x@a.b-" * 3,
    "a" * 64 + "@",
    "1" * 50,
    "1 " * 9,
    "11 " * 9,
    "1234 " * 5,
    "1.1." * 5,
    ":" * 9,
    "a:1:" * 9,
    "::1" * 9,
    "f:" * 30,
    "sk-",
    "eyJ",
    "eyJ" + "a" * 30 + ".",
    " eyJ",
    "ghp_",
    "AKIA",
    "xoxb-1",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "://a:",
    "://" + "a" * 200,
    "A1",
    "AA11 ",
    "ABCDEF",
    "GB82WEST1234",
    "(1)",
    "+1 ",
    "+44 20 7123 4567 ",
    "phone 0",
    "2-2-",
    "(212) 736-5000 ",
    "call 2127365000, ",
    "4111111111111111,",
    "DE89370400440532013000,",
    "m@web.de ",
    "8.8.4.4 ",
    "123-45-6789,",
    "ssn 123456789,",
    "secret_access_key=",
    "secret_access_key= '",
    "\0",
    "\u200b",
    "א1",
    "\ud800",
    "0" * 11 + " ",
    "\\n1234567",
    "12345678Z ",
    "f1::2:3 ",
    "Mr ",
    "Mr. A. ",
    "Mr. Aa de ",
    "Dr Bo" + "o" * 30,
    "Mr. " + "Zz-" * 13 + " ",
    "Aa ",
    "Ltd ",
    "Aa Ltd ",
    " Co, Co",
    "& ",
    "'s Ltd",
    "A" * 40 + " ",
    "A-",
    "A'" * 20,
    "12 Aa Aa Aa ",
    "Via de Aa ",
    "Rue du A",
    "Aastraße",
    "Apt. 1 ",
    "P. O. Box 1 ",
    "PSC 1, Box ",
    "APO AA 1",
    "A1 1AA ",
    "born ",
    "born 1.1.",
    "1/1/",
    "1 jan ",
    "1st of january ",
    "http://",
    "http://a.",
    "www.a.b ",
    "https://" + "a." * 20,
]


@pytest.mark.parametrize("unit", ADVERSARIAL, ids=range(len(ADVERSARIAL)))
def test_every_pattern_is_linear(unit: str) -> None:
    """A guard against a hang, no speed test: quadratic work on this text would take minutes, linear takes 0.1 s."""
    text = unit * (50_000 // len(unit))
    begin = time.process_time()
    find_pii(text, CONFIG)
    assert time.process_time() - begin < 10
