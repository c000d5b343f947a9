"""The router's own server: telling it to reload, and looking at what it serves.

Both speak to this machine only. The check asks one thing: does the server present exactly this
leaf? It does not verify the chain, since the router may trust nobody.
"""

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmint_agent.errors import CheckFailed

RELOAD_TIMEOUT_S = 60.0
_PAUSE_S = 0.2  # between two looks


def reload(command: Sequence[str], timeout_s: float = RELOAD_TIMEOUT_S) -> None:
    """Run the reload command without a shell, and wait for it. Raises CheckFailed.

    Its words are configuration alone. It is a process group of its own, so that a command that
    hangs goes with all its children.
    """
    if not command:
        return
    try:
        process = subprocess.Popen(  # noqa: S603 - the configuration's words, no shell
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as problem:
        raise CheckFailed(
            f"reload_command {command[0]!r} does not start: {problem.strerror}"
        ) from None
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise CheckFailed(
            f"reload_command {command[0]!r} did not end within {timeout_s:g} s"
        ) from None
    if code:
        raise CheckFailed(f"reload_command {command[0]!r} ended with {code}")


def check(address: tuple[str, int], name: str, leaf: x509.Certificate, timeout_s: float) -> None:
    """Wait until the server at `address` presents `leaf` for the SNI `name` ("" for no SNI).

    A server that has just been told to reload may be away or serve the old certificate for a
    moment, so it is asked again until `timeout_s` seconds have passed. Raises CheckFailed.
    """
    try:
        name.encode("idna")
    except UnicodeError:
        raise CheckFailed(f"{name!r} cannot be sent as a server name: set check_name") from None
    wanted = leaf.public_bytes(Encoding.DER)
    deadline = time.monotonic() + timeout_s
    while True:
        seen = _presented(address, name, max(0.1, deadline - time.monotonic()))
        if seen == wanted:
            return
        if time.monotonic() + _PAUSE_S >= deadline:
            break
        time.sleep(_PAUSE_S)
    what = seen if isinstance(seen, str) else "it serves another certificate"
    raise CheckFailed(
        f"{address[0]}:{address[1]} did not serve the new certificate "
        f"within {timeout_s:g} s: {what}"
    )


def _presented(address: tuple[str, int], name: str, timeout_s: float) -> bytes | str:
    """The leaf in DER that is presented, or why there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # equality with our own leaf is stronger than any chain
    try:
        with (
            socket.create_connection(address, timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=name or None) as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""
    except ssl.SSLError as problem:
        return problem.reason or "TLS failed"
    except OSError as problem:
        return problem.strerror or "no answer in time"
