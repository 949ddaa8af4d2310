"""From a text view to token ids, the same in training and serving."""

import json
import logging
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokie

__all__ = ["MAX_TOKENS", "ViewTokenizer", "cap_tokens", "cleaned_tokenizer"]

MAX_TOKENS = 128

# Every printable ASCII character, alone and between letters, in both cases.
_PROBE = " ".join(f"{chr(point)} Ab{chr(point)}cD 1{chr(point)}2" for point in range(33, 127))

_log = logging.getLogger(__name__)


class ViewTokenizer:
    """A Hugging Face tokenizer without padding, its output capped to head and tail.

    Where `tokie` is installed (the extra `fast`), it does the ASCII views of WordPiece
    vocabularies, some fifteen times faster. On other characters it can differ from the original.

    Parameters
    ----------
    tokenizer_json : str
        What `cleaned_tokenizer` returned.
    max_tokens : int
        Most ids of one text, special tokens among them.
    """

    def __init__(self, tokenizer_json: str, max_tokens: int = MAX_TOKENS) -> None:
        from tokenizers import Tokenizer

        self.json = tokenizer_json
        self.max_tokens = max_tokens
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        fast = _fast_tokenizer(tokenizer_json) or self._tokenizer
        agreed = fast.encode(_PROBE).ids == self._tokenizer.encode(_PROBE).ids
        self._of_ascii = fast if agreed else self._tokenizer

    def token_ids(self, view: str) -> list[int]:
        """Return the ids of a text view, at most `max_tokens` of them."""
        tokenizer = self._of_ascii if view.isascii() else self._tokenizer
        return cap_tokens(tokenizer.encode(view).ids, self.max_tokens)


def _fast_tokenizer(tokenizer_json: str) -> "tokie.Tokenizer | None":
    if json.loads(tokenizer_json)["model"]["type"] != "WordPiece":
        return None
    try:
        import tokie
    except ImportError:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(tokenizer_json)
        file.flush()
        try:
            return tokie.Tokenizer.from_json(file.name)
        except Exception as error:  # noqa: BLE001 its own errors; the original does what it cannot
            _log.warning("tokie does not take this tokenizer, which is slower without: %s", error)
            return None


def cap_tokens(token_ids: list[int], max_tokens: int) -> list[int]:
    """Keep the first and the last ids where there are more than `max_tokens`.

    Examples
    --------
    >>> cap_tokens([101, 1, 2, 3, 4, 102], 4)
    [101, 1, 4, 102]
    """
    if len(token_ids) <= max_tokens:
        return token_ids
    head = max_tokens // 2
    return token_ids[:head] + token_ids[head - max_tokens :]


def cleaned_tokenizer(tokenizer_json: str) -> str:
    """Return a `tokenizer.json` without its own truncation and padding.

    The original file pads every query to 128 tokens and keeps heads only.
    """
    settings = json.loads(tokenizer_json)
    settings["truncation"] = None
    settings["padding"] = None
    return json.dumps(settings, ensure_ascii=False)
