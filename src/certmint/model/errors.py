"""Everything that certmint says no with.

    CertmintError
    ├── BadInput         a value is malformed: nothing was looked up, nothing was changed
    ├── Refused          policy says no to a well-formed request
    ├── Unauthenticated  we do not know who asks
    ├── Forbidden        we know who asks, and they may not
    ├── NotFound         no such thing in this tenant
    ├── Conflict         the thing exists already, or somebody else was first
    ├── WrongState       the thing exists, but the move is not in its table
    ├── Pending          a person has to decide first: the same request is answered later
    ├── TooOften         asked too often, or guessed: come again after a while
    ├── Unavailable      storage, a key store or a network failed: try again later
    └── Misconfigured    the installation or its configuration is wrong

Each carries a stable `code` (kebab-case, documented in docs/errors.md) and one sentence for
the person who reads it. Only a door or the CLI turns one into a wire format or an exit code;
anything that is not a CertmintError is a bug and becomes an empty 500.
"""


class CertmintError(Exception):
    """Base of the tree. Never thrown directly."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return self.detail

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.detail!r})"


class BadInput(CertmintError):
    """A value is malformed."""


class Refused(CertmintError):
    """Policy says no; the code names the rule (docs/policy.md)."""


class Unauthenticated(CertmintError):
    """The credentials are missing or wrong."""


class Forbidden(CertmintError):
    """The requester is known and lacks the right."""


class NotFound(CertmintError):
    """No such thing in this tenant."""


class Conflict(CertmintError):
    """The thing exists already, or another request was first."""


class WrongState(CertmintError):
    """A move that the state table does not have."""


class Pending(CertmintError):
    """An operator has to approve the request first; `retry_after` is in seconds.

    It is kept: the same request, asked again, gets the answer.
    """

    def __init__(self, code: str, detail: str, retry_after: int = 60) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class TooOften(CertmintError):
    """Asked or guessed too often; `retry_after` is in seconds."""

    def __init__(self, code: str, detail: str, retry_after: int = 60) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class Unavailable(CertmintError):
    """Storage, a key store or the network failed; the same request may succeed later."""


class Misconfigured(CertmintError):
    """The installation or its configuration is wrong; a person has to change it."""
