"""`certmint lab`: an ACME server on loopback for clients to be tried against."""

import base64
import importlib.metadata
from pathlib import Path

import click

from certmint.app.cli.common import log_to_stderr


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("lab"))
@click.option("--https", default=14000, show_default=True, help="Port of the ACME server.")
@click.option("--http", default=14080, show_default=True, help="Port of CRL, OCSP and AIA.")
@click.option("--http01-port", default=5002, show_default=True, help="Where http-01 is looked for.")
@click.option("--tls-port", default=5001, show_default=True, help="Where tls-alpn-01 is.")
@click.option("--resolver", default="127.0.0.1:8053", show_default=True, help="DNS to ask.")
@click.option("--eab", is_flag=True, help="Require an external account binding.")
def lab(
    folder: Path, https: int, http: int, http01_port: int, tls_port: int, resolver: str, eab: bool
) -> None:
    """Serve a fresh lab in FOLDER, and print what a client needs to know.

    Ends with Ctrl-C. See docs/lab.md.
    """
    from certmint.app.lab import Ports, build
    from certmint.app.serve import serve

    log_to_stderr("warning")
    made = build(folder, Ports(https, http, http01_port, tls_port), resolver, requires_binding=eab)
    click.echo(f"directory: {made.directory_url}")
    click.echo(f"ca-file:   {made.ca_file}")
    click.echo(f"root:      {made.issuer_root}")
    if eab:
        key = base64.urlsafe_b64encode(made.hmac_key).rstrip(b"=").decode()
        click.echo(f"eab-kid:   {made.kid}")
        click.echo(f"eab-key:   {key}")
    try:
        serve(made.installation, importlib.metadata.version("certmint"))
    finally:
        made.installation.close()
