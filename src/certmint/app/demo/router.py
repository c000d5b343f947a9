"""A router's web server: HTTPS from `<folder>/live`, reloaded by SIGHUP. One process.

Run as `python -m certmint.app.demo.router FOLDER PORT`; a firmware would run uhttpd or nginx.
"""

import http.server
import signal
import ssl
import sys
from pathlib import Path

PAGE = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Your router</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;max-width:34rem;color:#1c2733}
h1{font-size:1.8rem}p{color:#4b5a68}</style></head>
<body><h1>Your router is up</h1><p>This page came over HTTPS, from a certificate that this router
alone holds the key of. No warning, no exception to click away.</p></body></html>
"""


class Page(http.server.BaseHTTPRequestHandler):
    """One page for every path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        """Nobody reads a router's access log here."""


def load(folder: Path) -> ssl.SSLContext:
    """A context with the certificate that is live now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "live" / "chain.pem", folder / "live" / "key.pem")
    return context


def main() -> None:
    """Serve until SIGTERM."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    front = load(folder)
    current = [front]

    def choose(connection: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
        connection.context = current[0]

    def reload(*_: object) -> None:
        current[0] = load(folder)

    front.sni_callback = choose
    signal.signal(signal.SIGHUP, reload)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Page)
    server.daemon_threads = True
    server.socket = front.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
