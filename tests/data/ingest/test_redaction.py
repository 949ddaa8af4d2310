"""Personal data is replaced by its kind; text that only looks like it stays."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.ingest.redaction import KINDS, check_nothing_personal, redact
from querytier.data.text_view import text_view
from querytier.errors import LogError

SIGNS = st.text(st.sampled_from("a.@-+ 0123456789[]()D\u0665"), max_size=60)
PERSONAL = {
    "ann.lee+news@mail.example.org": "EMAIL",
    "DE89 3704 0044 0532 0130 00": "DE_IBAN",
    "4111-1111-1111-1111": "CREDIT_CARD",
    "378282246310005": "CREDIT_CARD",
    "8.8.4.4": "IP_ADDRESS",
    "219-09-9999": "SSN",
    "(555) 010-7788": "PHONE",
    "555.010.7788": "PHONE",
    "+44 20 7946 0958": "PHONE",
    "+493012345678": "PHONE",
}


@pytest.mark.parametrize(("value", "kind"), PERSONAL.items())
def test_personal_data_is_replaced_by_its_kind(value, kind):
    assert redact(f"It is {value}, or so.") == (f"It is [{kind}], or so.", Counter({kind: 1}))
    assert redact(value)[0] == f"[{kind}]"


@pytest.mark.parametrize(
    "text",
    [
        "It cost 2,310.00 in 2019, 1.234.567,89 in 2020 and 4711 in 2021-2022.",
        "What is 1234567890 times 2147483647, or 219099999?",
        "3.14159265358979 and 0.4111111111111111 and 2.718-281-8284",
        "Order 4111111111111112 of 05/07/2031, postal code 12345-6789, at 06:00.",
        "Ping 127.0.0.1, 10.1.2.3, 192.168.0.1 and 0.0.0.0, not 999.8.8.8.",
        "snmpget 1.3.6.1.2.1.1.3 in version 1.2.3",
        "@app.route, user@localhost, react@18.2.0, a @ b.T, C@D",
        "DE00 3704 0044 0532 0130 00",
        "",
    ],
)
def test_numbers_dates_versions_and_code_stay(text):
    assert redact(text) == (text, Counter())


def test_a_number_that_fails_its_check_hides_none_behind_it():
    text = "code 49301234 4111-1111-1111-1111"
    assert redact(text)[0] == "code 49301234 [CREDIT_CARD]"


def test_many_findings_are_counted_by_kind():
    text, counts = redact("a@b.org,c@d.org; +1 555 010 7788 e@f.org\n" * 3)
    assert text == "[EMAIL],[EMAIL]; [PHONE] [EMAIL]\n" * 3
    assert counts == {"EMAIL": 9, "PHONE": 3}


@given(SIGNS)
def test_the_counts_equal_the_number_of_placeholders(text):
    redacted, counts = redact(text)
    for kind in KINDS:
        assert redacted.count(f"[{kind}]") == counts[kind]


@given(st.lists(st.sampled_from([*PERSONAL, "and", "2031", "3.5"]), max_size=6))
def test_redacting_again_finds_nothing(words):
    assert redact(redact(" ".join(words))[0])[1] == Counter()


def test_placeholders_are_ordinary_text_to_view_and_tokenizer(encoder):
    for kind in KINDS:
        assert text_view(f"[{kind}]") == f"[{kind}]"
    plain = encoder.tokenizer.token_ids(" ".join(KINDS))
    marked = encoder.tokenizer.token_ids(" ".join(f"[{kind}]" for kind in KINDS))
    assert set(plain) < set(marked)


def test_a_long_text_takes_time_in_proportion_to_its_length():
    """In proportion to the square, it would take minutes."""
    text = "a/" * 100_000 + " a@b.org"
    assert redact(text) == ("a/" * 100_000 + " [EMAIL]", Counter({"EMAIL": 1}))


def test_a_log_with_personal_data_can_be_refused_without_showing_any():
    check_nothing_personal(Counter(), "log.jsonl")
    with pytest.raises(LogError, match=r"log\.jsonl contains personal data \(EMAIL: 2, PHONE: 1\)"):
        check_nothing_personal(Counter(PHONE=1, EMAIL=2), "log.jsonl")


def test_redacting_prints_nothing_and_sends_no_telemetry():
    program = (
        "import json, os, socket, sys\n"
        "def refused(*_): raise AssertionError('the network was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from querytier.data.ingest.redaction import redact\n"
        "redact('a@b.org')\n"
        "loaded = 'datafog.telemetry' in sys.modules\n"
        "print(json.dumps([loaded, os.environ['DATAFOG_NO_TELEMETRY']]))\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {"DATAFOG_TELEMETRY": "1"}
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    assert json.loads(answer.stdout) == [False, "1"]
    assert not answer.stderr
