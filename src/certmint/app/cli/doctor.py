"""`certmint doctor`: what is wrong with an installation, in plain words."""

from pathlib import Path

import click

from certmint.app.cli.common import config_option
from certmint.model.errors import Misconfigured


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def doctor(config_path: Path, as_json: bool) -> None:
    """Check configuration, secrets, database, keys, certificates, CRLs, DNS and ports.

    Ends with exit code 7 if anything is wrong.
    """
    import json

    from certmint.app.examination import examine

    findings = examine(config_path)
    for finding in findings:
        if as_json:
            row = {"ok": finding.ok, "check": finding.check, "detail": finding.detail}
            click.echo(json.dumps(row))
        else:
            click.echo(f"{'ok    ' if finding.ok else 'WRONG '} {finding.check}: {finding.detail}")
    wrong = sum(not finding.ok for finding in findings)
    if wrong:
        raise Misconfigured("doctor", f"{wrong} of {len(findings)} checks found something wrong")
