"""The text view: the one function through which training and serving see a query.

Version 1 takes these steps, in this order, so that the work is bounded before anything is searched:

1. messages become the text of the last user turn;
2. at most `MAX_CHARACTERS` characters are kept: the head and the tail, joined by `CUT_MARK`;
3. control, zero-width, bidirectional and lone surrogate characters are dropped;
4. harness text is removed: ChatML turns other than the last user turn, and blocks such as
   `<system-reminder>`; if there is a `<user_query>` block, only it remains;
5. literal special tokens (`[SEP]`, `<|im_end|>`, `</s>`) are split, so that no tokenizer takes them
   for its own;
6. white space (U+0009 to U+000D, U+0020, U+0085, U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029,
   U+202F, U+205F, U+3000) is folded to single spaces.

Sets of characters do not depend on the Unicode tables of the interpreter, so that ports to other
languages, and other versions of Python, see the same text.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache

__all__ = [
    "CUT_MARK",
    "MAX_CHARACTERS",
    "VIEW_VERSION",
    "hashed",
    "is_truncated",
    "last_user_text",
    "text_view",
    "view_fingerprint",
]

VIEW_VERSION = 1
MAX_CHARACTERS = 4096
CUT_MARK = " ... "

Messages = Sequence[Mapping[str, object]]

_ANY_CASE = re.IGNORECASE | re.ASCII  # a to z only: languages disagree about other letters
_HARNESS_TAGS = (
    "system|system-reminder|system_prompt|system_instruction|system_instructions|instructions|"
    "environment_context|environment_details|environment_info|additional_context|attached_files|"
    "open_files|ide_selection|git_status|linter_errors|available_tools|user_info|user_rules|"
    "tool_result|tool_results|function_results"
)
_HARNESS = re.compile(rf"<(/?)(?:{_HARNESS_TAGS})(?: [^<>]*)?>", _ANY_CASE)
_REQUEST = re.compile(r"<(/?)(?:user_query|user_request|user_message)>", _ANY_CASE)
_CHATML = re.compile(r"<\|im_start\|>[ \t]*([a-z]+)[ \t]*\n?|<\|im_end\|>")
# Dropped and not replaced by a space, which would cut words in scripts that use joiners. Written
# out, because the Unicode tables of the interpreter differ between versions.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff0-\uffff\ud800-\udfff]"
)
_SPECIAL_TOKEN = re.compile(
    r"\[(?=(?:CLS|SEP|MASK|PAD|UNK)\])|<(?=\|[^|<>]{1,40}\|>)|<(?=/?(?:s|pad|unk|mask)>)"
)


def text_view(query: str | Messages) -> str:
    r"""Return what the classifier sees of a query.

    Parameters
    ----------
    query : str or sequence of mappings
        The query, or chat messages (`{"role": ..., "content": ...}`) whose last user turn is the
        query.

    Returns
    -------
    str
        At most `MAX_CHARACTERS + len(CUT_MARK)` characters plus one for each literal special token;
        empty if nothing is left to decide on.

    Raises
    ------
    TypeError
        If `query` is neither text nor messages.

    Examples
    --------
    >>> text_view("  Translate\tthis,\nplease ")
    'Translate this, please'
    >>> text_view("<system-reminder>Be kind.</system-reminder>What is a quorum?")
    'What is a quorum?'
    >>> text_view([{"role": "system", "content": "x"}, {"role": "user", "content": "Hello [SEP]"}])
    'Hello [ SEP]'
    """
    text = query if isinstance(query, str) else last_user_text(query)
    text = _keep_head_and_tail(text)  # first: no search below may take longer on longer queries
    # Most texts need none of the searches, which would take longer than a static encoder.
    if not (text.isascii() and text.isprintable()):
        text = _UNSEEN.sub("", text)
    if "<" in text:
        text = _without_blocks(_request_only(_last_chatml_turn(text)), _HARNESS)
    if "<" in text or "[" in text:
        text = _SPECIAL_TOKEN.sub(r"\g<0> ", text)
    return " ".join(text.split())


def is_truncated(query: str | Messages) -> bool:
    """Return whether the view omits characters of the query because of its length.

    Examples
    --------
    >>> is_truncated("short"), is_truncated("x" * 5000)
    (False, True)
    """
    return len(query if isinstance(query, str) else last_user_text(query)) > MAX_CHARACTERS


def last_user_text(messages: Messages) -> str:
    """Return the text of the last user turn; empty if there is none.

    Parameters
    ----------
    messages : sequence of mappings
        Each with `role` and `content`; the content is text, or a list of parts of which those with
        a `text` count.

    Raises
    ------
    TypeError
        If `messages` is not a sequence of mappings.

    Examples
    --------
    >>> last_user_text([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    'Hi'
    """
    if isinstance(messages, bytes | Mapping) or not isinstance(messages, Sequence):
        raise TypeError(f"a query is text or a list of messages, not {type(messages).__name__}")
    for message in reversed(messages):
        if not isinstance(message, Mapping):
            raise TypeError(f"a message is a mapping, not {type(message).__name__}")
        if message.get("role") == "user":
            return _content_text(message.get("content"))
    return ""


def hashed(text: str) -> int:
    """Return a stable 64-bit hash of a text, to keep in memory in its place.

    Examples
    --------
    >>> hashed("a") == hashed("a"), hashed("a") == hashed("b")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


@cache
def view_fingerprint() -> str:
    """Return the sha256 of the view's outputs on fixed inputs.

    Artifacts contain it: they refuse to load if the view returns something else for these inputs,
    and still load after a harmless refactoring.
    """
    outputs = "\x00".join(text_view(vector) for vector in _FIXED_INPUTS)
    return hashlib.sha256(outputs.encode()).hexdigest()


def _keep_head_and_tail(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    # Requests are at either end: before the pasted material, or after it.
    half = MAX_CHARACTERS // 2
    return text[:half] + CUT_MARK + text[-half:]


def _last_chatml_turn(text: str) -> str:
    """Return the last user turn of ChatML markup; the text itself if there is none."""
    turn, start = text, None
    for mark in _CHATML.finditer(text):
        if start is not None:
            turn = text[start : mark.start()]
        start = mark.end() if mark.group(1) == "user" else None
    return turn if start is None else text[start:]


def _request_only(text: str) -> str:
    """Return the content of the last `<user_query>` block; the text itself without one."""
    request, start = text, None
    for mark in _REQUEST.finditer(text):
        if not mark.group(1):
            start = mark.end()
        elif start is not None:
            request, start = text[start : mark.start()], None
    return request


def _without_blocks(text: str, tag: re.Pattern[str]) -> str:
    """Return a text without the outermost blocks between matching tags, in one pass.

    A tag that is never closed, or never opened, is kept: only text that is certainly a harness's is
    removed.
    """
    kept: list[str] = []
    opened: list[int] = []
    end_of_last = 0
    for mark in tag.finditer(text):
        if not mark.group(1):
            opened.append(mark.start())
        elif opened:
            start = opened.pop()
            if not opened:
                kept.append(text[end_of_last:start])
                end_of_last = mark.end()
    return " ".join([*kept, text[end_of_last:]])


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))


_FIXED_INPUTS: tuple[str | Messages, ...] = (
    "",
    " \t\n",
    "What is a quorum?",
    "Wh\u00e4r\u0435 is\u200b the \u202eend\u0007?\ud800",
    "a\u3000b\u00a0c\u2028d\x85e",
    "head " + "x" * 5000 + " tail",
    "[CLS] [SEP] [MASK] [PAD] [UNK] [sep] <s> </s> <pad> <unk> <mask> <|endoftext|> <|a|b|>",
    "<system-reminder>one</system-reminder> two <SYSTEM>three <system>four</system></SYSTEM> five",
    "<system>never closed",
    "never opened</system>",
    '<attached_files path="a.py">code</attached_files>explain',
    "<environment_context>" + "y" * 5000 + "</environment_context>what failed?",
    "context <user_query>first</user_query> more <user_query>second</user_query>",
    "<|im_start|>system\nrules<|im_end|>\n<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nunclosed turn",
    "[\u200bSEP] <\u0000system>still text</system>",
    (
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": [{"type": "text", "text": "last"}, {"type": "image"}]},
    ),
    ({"role": "system", "content": "nobody asks"},),
)
