"""A request that gets no decision, and why: status, code, and a message with the cure."""

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818 an answer of the service, not a failure of it
    """What the service answers where it does not do what was asked.

    Parameters
    ----------
    status : int
        The HTTP status, 4xx or 503.
    code : str
        One word for programs.
    message : str
        What was wrong, the value, and the cure; for people.
    close : bool
        Whether the connection ends with the answer, because the rest of the request is not read.
    """

    def __init__(self, status: int, code: str, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.close = close
