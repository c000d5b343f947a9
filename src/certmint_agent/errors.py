"""Everything that the agent gives up with, and the exit code of each.

    AgentError
    ├── Misconfigured  2  the configuration, a file it names or the device's clock is wrong
    ├── Unreachable    3  the server cannot be reached, or says: later
    ├── Refused        4  the server knows what we ask, and says no
    ├── Unacceptable   5  the server's answer is not the certificate that we asked for
    ├── CheckFailed    6  the router did not serve the new certificate
    ├── Locked         7  another agent is at work in this service folder
    ├── StorageFailed  8  the service folder cannot be read or written
    └── KeyStoreFailed 9  the token or TPM that holds the keys does not answer

0 is success, and 1 is the answer of `status` when no valid certificate is installed.
Each carries one sentence; none carries a secret.
"""


class AgentError(Exception):
    """Base of the tree. `retry_after` is the server's wish in seconds, if it had one."""

    exit_code = 1

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Misconfigured(AgentError):
    """A person has to change something on the device."""

    exit_code = 2


class Unreachable(AgentError):
    """Nothing is known to be wrong: the same attempt may succeed later."""

    exit_code = 3


class Refused(AgentError):
    """The server says no."""

    exit_code = 4


class Unacceptable(AgentError):
    """What the server sent is not installed."""

    exit_code = 5


class CheckFailed(AgentError):
    """The certificate was installed and did not pass its check; see `certmint_agent.renewal`."""

    exit_code = 6


class Locked(AgentError):
    """Another process holds the lock."""

    exit_code = 7


class StorageFailed(AgentError):
    """The file system said no: full, read-only or broken."""

    exit_code = 8


class KeyStoreFailed(AgentError):
    """The hardware that holds the keys said no, or nothing."""

    exit_code = 9
