"""`certmint authority`."""

from collections.abc import Callable
from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    installation,
    json_option,
    print_item,
    print_rows,
    tenant_of,
    tenant_option,
    write_new_file,
)
from certmint.model.entities import Authority
from certmint.model.errors import BadInput
from certmint.model.keys import KeyKind

_KINDS = [KeyKind.P256.value, KeyKind.P384.value]


@click.group()
def authority() -> None:
    """Roots, issuing CAs and technically constrained SubCAs."""


def _making(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--subject", default=None, help="[the manufacturer's C and O, CN=NAME]"),
        click.option("--key", "key_uri", default=None, help="[file:keys/<id>.pem] or pkcs11:…"),
        click.option("--key-kind", type=click.Choice(_KINDS), default=_KINDS[0], show_default=True),
        click.option("--crl-shards", type=click.IntRange(1, 1024), default=1, show_default=True),
        config_option, tenant_option, json_option,
    ):  # fmt: skip
        command = option(command)
    return command


@authority.command()
@click.argument("name")
@click.option("--identity", is_flag=True, help="For identity certificates: never expires.")
@_making
def root(name: str, identity: bool, **given: object) -> None:
    """Make the self-signed root NAME."""
    _make(name, "identity-root" if identity else "root", None, None, given)


@authority.command()
@click.argument("name")
@click.option("--parent", required=True, help="The root above it.")
@click.option("--identity", is_flag=True, help="Issues identity certificates (clientAuth).")
@_making
def issuing(name: str, parent: str, identity: bool, **given: object) -> None:
    """Make the issuing CA NAME below a root."""
    _make(name, "identity-issuing" if identity else "issuing", parent, None, given)


@authority.command()
@click.argument("name")
@click.option("--parent", required=True, help="The CA above it.")
@click.option("--domain", "domains", multiple=True, required=True, help="A validated domain.")
@click.option(
    "--kind", type=click.Choice(["tc-tls-7.1.2.5", "tls-7.1.2.6-named"]),
    default="tc-tls-7.1.2.5", show_default=True, help="The BR section that shapes it.",
)  # fmt: skip
@click.option("--critical", is_flag=True, help="Mark the name constraints critical.")
@_making
def subordinate(
    name: str,
    parent: str,
    domains: tuple[str, ...],
    kind: str,
    critical: bool,
    **given: object,
) -> None:
    """Make the technically constrained SubCA NAME: path length 0, the given domains only."""
    _make(name, "subordinate", parent, (kind, domains, critical), given)


def _make(
    name: str,
    kind: str,
    parent: str | None,
    constrained: tuple[str, tuple[str, ...], bool] | None,
    given: dict[str, object],
) -> None:
    from certmint.enrolment.authorities import create_authority
    from certmint.enrolment.wishes import (
        AuthorityKind,
        AuthorityWish,
        ConstraintsKind,
        new_authority,
    )

    config_path, slug, as_json = given["config_path"], given["slug"], given["as_json"]
    shape, domains, critical = constrained or ("tc-tls-7.1.2.5", (), False)
    wish = AuthorityWish(
        name=name,
        kind=AuthorityKind(kind),
        parent=parent,
        domains=domains,
        constraints=ConstraintsKind(shape),
        critical=critical,
        subject=str(given["subject"] or ""),
        key_uri=str(given["key_uri"] or ""),
        key_kind=KeyKind(str(given["key_kind"])),
        crl_shards=int(str(given["crl_shards"])),
    )
    with installation(Path(str(config_path))) as here:
        tenant = tenant_of(here, str(slug) if slug else None)
        settings = here.config.settings
        made = create_authority(
            here.db, here.gate, here.keys, tenant,
            new_authority(tenant, wish, settings.keys.folder, settings.status.url),
            operator_id=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    print_item(_describe(made), as_json=bool(as_json))


@authority.command("list")
@config_option
@tenant_option
@json_option
def list_authorities(config_path: Path, slug: str | None, as_json: bool) -> None:
    """List the authorities."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            rows = [
                {"name": each.name, "kind": each.purpose.value, "state": each.state.value,
                 "not_after": each.not_after, "domains": _domains(each)}
                for each in reads.authorities(tx, tenant.id)
            ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no authorities yet: `certmint authority root NAME`")


@authority.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write PEM here.")
@click.option("--chain", is_flag=True, help="With the authorities above it, root last.")
@config_option
@tenant_option
@json_option
def show(
    config_path: Path, slug: str | None, name: str, out: Path | None, chain: bool, as_json: bool
) -> None:
    """Show an authority, or write its certificate as PEM."""
    from certmint.enrolment import chains
    from certmint.enrolment.authorities import authority_named
    from certmint.enrolment.facts import authority_chain

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            found = authority_named(tx, tenant.id, name)
            links = authority_chain(tx, tenant.id, found.id) if chain else [found]
    if out is not None:
        write_new_file(out, "".join(chains.pem(link.der) for link in links))
        return
    print_item(_describe(found), as_json=as_json)


@authority.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write the CRL (DER).")
@click.option("--shard", type=int, default=0, show_default=True)
@config_option
@tenant_option
def crl(config_path: Path, slug: str | None, name: str, out: Path | None, shard: int) -> None:
    """Sign and publish fresh CRLs of NAME now; with --out, write one of them."""
    from certmint.enrolment import status
    from certmint.enrolment.authorities import authority_named

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            found = authority_named(tx, tenant.id, name)
        if not 0 <= shard < found.crl_shards:
            raise BadInput(
                "crl-shard", f"authority {name!r} has shards 0 to {found.crl_shards - 1}"
            )
        numbers = status.publish_crls(here.db, here.keys, found, here.clock())
        newest = status.crl(here.db, found.id, shard)
    if out is not None:
        write_new_file(out, newest.der)
    click.echo(f"CRL {', '.join(map(str, numbers))} of {name} published")


def _describe(found: Authority) -> dict[str, object]:
    return {
        "id": found.id,
        "name": found.name,
        "kind": found.purpose.value,
        "trust": found.trust.value,
        "state": found.state.value,
        "subject": str(found.subject),
        "serial": found.serial,
        "not_before": found.not_before,
        "not_after": found.not_after,
        "path_length": found.path_length,
        "domains": _domains(found),
        "key": found.key.kind.value,
        "status_url": found.status_url,
    }


def _domains(found: Authority) -> list[str] | None:
    return list(found.constraints.permitted_dns) if found.constraints else None
