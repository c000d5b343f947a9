"""A router's HTTPS server, as small as it can be: it serves FOLDER/live, and SIGHUP reloads it.

The file FOLDER/broken says how a reload goes wrong: `ignore` it, or `die`.
"""

import contextlib
import signal
import socket
import ssl
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])


def load() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "live" / "chain.pem", FOLDER / "live" / "key.pem")
    return context


current = [load()]


def reload(*_: object) -> None:
    broken = FOLDER / "broken"
    how = broken.read_text() if broken.exists() else ""
    if how == "die":
        sys.exit(1)
    if how != "ignore":
        current[0] = load()


def main() -> None:
    signal.signal(signal.SIGHUP, reload)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            plain, _ = listener.accept()
            plain.settimeout(5)
            with plain, contextlib.suppress(OSError):
                current[0].wrap_socket(plain, server_side=True).close()


main()
