"""From a text view to token ids, the same in training and serving."""

import json

__all__ = ["MAX_TOKENS", "ViewTokenizer", "cap_tokens", "cleaned_tokenizer"]

MAX_TOKENS = 128


class ViewTokenizer:
    """A Hugging Face tokenizer without padding, its output capped to head and tail.

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

    def token_ids(self, view: str) -> list[int]:
        """Return the ids of a text view, at most `max_tokens` of them."""
        return cap_tokens(self._tokenizer.encode(view).ids, self.max_tokens)


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
