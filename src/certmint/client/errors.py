"""What can go wrong between a client and its server.

ClientError
├── Problem       the server said no, and why
├── Unreachable   there was no answer
└── Unexpected    the answer is not one of this API
"""


class ClientError(Exception):
    """Never raised itself."""


class Problem(ClientError):
    """A problem document (RFC 9457). `code` is stable, and docs/errors.md has them all."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float | None) -> None:
        super().__init__(f"{detail} [{code}]")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class Unreachable(ClientError):
    """No answer came. A request that changes something may have been carried out."""


class Unexpected(ClientError):
    """The answer is not one that this API gives: a proxy, or another server."""
