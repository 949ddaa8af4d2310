"""Personal data in queries: found by datafog's patterns, counted by kind, never kept or shown.

Only kinds whose patterns are precise in queries are searched for, and each match is checked again:

=========== ====================================================================================
EMAIL       as datafog finds it, the local part at most 64 and the domain 255 characters long
PHONE       international with +, or ten digits of North America in three groups
SSN         with its hyphens; nine digits without may be any number
CREDIT_CARD with a valid check digit (ISO/IEC 7812-1, Annex B)
IP_ADDRESS  IPv4 of the public Internet; 127.0.0.1 and 10.0.0.1 identify nobody
DE_IBAN     with a valid checksum (ISO 13616)
=========== ====================================================================================

datafog's dates, postal codes and other German numbers are not searched for: most matches of its
dates and postal codes in queries are neither. Names and addresses have no pattern, so the text that
remains can still be personal.
"""

import ipaddress
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Literal

from querytier.errors import LogError, MissingExtraError

__all__ = ["KINDS", "Redaction", "check_nothing_personal", "redact"]

Redaction = Literal["off", "on", "fail"]

KINDS = ("EMAIL", "DE_IBAN", "CREDIT_CARD", "IP_ADDRESS", "SSN", "PHONE")

# RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.2.
_LONGEST_LOCAL_PART = 64
_LONGEST_DOMAIN = 255


def redact(text: str) -> tuple[str, Counter[str]]:
    """Replace personal data by its kind in brackets.

    Parameters
    ----------
    text : str

    Returns
    -------
    text : str
        With placeholders such as `[EMAIL]`, none of which is a special token of a tokenizer.
    counts : Counter
        Replacements by kind, of `KINDS`.

    Raises
    ------
    MissingExtraError
        If datafog is not installed.

    Examples
    --------
    >>> redact("Write to ann@example.org by 2031, it is about 2,310.00 euros.")
    ('Write to [EMAIL] by 2031, it is about 2,310.00 euros.', Counter({'EMAIL': 1}))
    """
    text, counts = _redacted_once(text)
    found = counts
    # Text that one match covered may be part of another match once the first is replaced.
    while found:
        text, found = _redacted_once(text)
        counts += found
    return text, counts


def check_nothing_personal(counts: Mapping[str, int], logs: str) -> None:
    """Raise an error if `redact` found personal data in a log.

    Parameters
    ----------
    counts : mapping of str to int
        Matches by kind, over all queries of the logs.
    logs : str
        Names of the logs.

    Raises
    ------
    LogError
        If there is any; the message has the number of matches by kind, never the data.
    """
    found = ", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items()) if count)
    if found:
        raise LogError(
            f"{logs} contains personal data ({found}); replace it with redaction: on, or remove it "
            "from the log"
        )


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    # datafog reads it when it is imported, and reports its use over the network otherwise.
    os.environ["DATAFOG_NO_TELEMETRY"] = "1"
    try:
        from datafog.processing.text_processing.regex_annotator import RegexAnnotator
    except ImportError as error:
        raise MissingExtraError("datafog", "train") from error
    known = RegexAnnotator(enabled_labels=KINDS).patterns
    return {kind: known[kind] for kind in KINDS}


def _redacted_once(text: str) -> tuple[str, Counter[str]]:
    counts: Counter[str] = Counter()
    for kind, pattern in _patterns().items():
        matches = list(_emails(pattern, text) if kind == "EMAIL" else _numbers(kind, pattern, text))
        if matches:
            counts[kind] = len(matches)
            text = _replaced(text, matches, f"[{kind}]")
    return text, counts


def _numbers(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Yield the matches that pass their check."""
    start = 0
    while match := pattern.search(text, start):
        passed = _CHECKS[kind](match)
        # A match that fails may overlap one that passes, so the search resumes within it.
        start = match.end() if passed else match.start() + 1
        if passed:
            yield match


def _emails(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Yield the matches around each @: on a whole text the pattern takes quadratic time."""
    end = 0
    for sign in re.finditer("@", text):
        start = max(end, sign.start() - _LONGEST_LOCAL_PART)
        match = pattern.search(text, start, sign.end() + _LONGEST_DOMAIN)
        if match and sign.start() >= end:
            end = match.end()
            yield match


def _replaced(text: str, matches: list[re.Match[str]], placeholder: str) -> str:
    starts = [0, *(match.end() for match in matches)]
    ends = [*(match.start() for match in matches), len(text)]
    kept = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    return placeholder.join(kept)


def _stands_alone(match: re.Match[str]) -> bool:
    """Return whether a match is not part of a longer dotted or decimal number."""
    before = match.string[max(match.start() - 2, 0) : match.start()]
    after = match.string[match.end() : match.end() + 2]
    return not (re.match(r"\d[.,]", before) or re.match(r"[.,]\d", after))


def _is_card(match: re.Match[str]) -> bool:
    digits = [int(digit) for digit in reversed(re.findall(r"\d", match[0]))]
    # Luhn: every second digit from the right is doubled, and the digits of the result are added.
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return _stands_alone(match) and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_public_address(match: re.Match[str]) -> bool:
    try:
        return _stands_alone(match) and ipaddress.IPv4Address(match[0]).is_global
    except ValueError:
        return False


def _is_iban(match: re.Match[str]) -> bool:
    account = re.sub(r"\s", "", match[0]).upper()
    # ISO 13616: the country moves to the end, letters count from A = 10, the rest modulo 97 is 1.
    return int("".join(str(int(sign, 36)) for sign in account[4:] + account[:4])) % 97 == 1


_CHECKS: dict[str, Callable[[re.Match[str]], bool]] = {
    "DE_IBAN": _is_iban,
    "CREDIT_CARD": _is_card,
    "IP_ADDRESS": _is_public_address,
    "SSN": lambda match: "-" in match[0],
    "PHONE": lambda match: _stands_alone(match) and not match[0].isdigit(),
}
