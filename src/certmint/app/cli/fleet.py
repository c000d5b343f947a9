"""`certmint device list | certificates | history | transfer | change`: many, and over time."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    installation,
    json_option,
    print_item,
    print_rows,
    read_list,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.model.entities import Certificate
from certmint.model.errors import CertmintError, NotFound
from certmint.model.states import DeviceEvent, DeviceState

if TYPE_CHECKING:
    from certmint.app.wiring import Installation
    from certmint.model.entities import Manufacturer, Owner

_REFUSED = 3


@click.command("list")
@click.option("--state", type=click.Choice([state.value for state in DeviceState]), default=None)
@click.option("--product", default=None, metavar="NAME", help="Devices of this product only.")
@click.option("--batch", default=None, metavar="ID", help="Devices of this batch only.")
@click.option("--owner", default=None, metavar="USERNAME", help="Devices of this owner only.")
@click.option("--prefix", default=None, help="What the serial numbers begin with.")
@paging_options
@config_option
@tenant_option
@json_option
def list_devices(
    config_path: Path,
    slug: str | None,
    state: str | None,
    product: str | None,
    batch: str | None,
    owner: str | None,
    prefix: str | None,
    paging: Paging,
    as_json: bool,
) -> None:
    """List devices in the order of their serial numbers."""
    from certmint.enrolment.products import product_named
    from certmint.model.entities import Device
    from certmint.registry import reads

    def row(found: Device) -> dict[str, object]:
        return {
            "serial": found.serial_number,
            "label": found.label,
            "mac": found.mac or None,
            "state": found.state.value,
            "suspended_for": found.suspended_for or None,
            "claimed": found.owner_id is not None,
        }

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        product_id = product_named(here.db, tenant, product).id if product else None
        owner_id = owner_named(here, tenant, owner).id if owner else None

        def fetch(after: str | None, limit: int) -> list[Device]:
            with here.db.read() as tx:
                return reads.devices(
                    tx, tenant.id, state=DeviceState(state) if state else None,
                    product_id=product_id, batch_id=batch, owner_id=owner_id, prefix=prefix,
                    after=after, limit=limit,
                )  # fmt: skip

        print_pages(
            paging, fetch, row, lambda each: each.serial_number, as_json=as_json, empty="no devices"
        )


def owner_named(here: "Installation", tenant: "Manufacturer", username: str) -> "Owner":
    """Raises NotFound `owner-unknown`."""
    from certmint.registry import reads

    with here.db.read() as tx:
        found = reads.owner_credentials(tx, tenant.id, username)
    if found is None:
        raise NotFound(
            "owner-unknown", f"there is no owner {username!r}: see `certmint owner list`"
        )
    return found[0]


@click.command()
@click.argument("serial_number")
@paging_options
@config_option
@tenant_option
@json_option
def certificates(
    config_path: Path, slug: str | None, serial_number: str, paging: Paging, as_json: bool
) -> None:
    """List a device's certificates, oldest first."""
    from certmint.enrolment.devices import view_by_serial_number
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant, now = tenant_of(here, slug), here.clock()
        device = view_by_serial_number(here.db, tenant.id, serial_number).device

        def fetch(after: str | None, limit: int) -> list[Certificate]:
            with here.db.read() as tx:
                return reads.certificates(
                    tx, tenant.id, device_id=device.id, with_der=False, after=after, limit=limit
                )

        print_pages(
            paging, fetch, lambda each: certificate_row(each, now), lambda each: each.serial,
            as_json=as_json, empty="no certificates yet",
        )  # fmt: skip


def certificate_row(found: Certificate, now: dt.datetime) -> dict[str, object]:
    """A certificate in a table."""
    return {
        "certificate": found.serial,
        "profile": found.profile,
        "not_before": found.not_before,
        "not_after": found.not_after,
        "state": standing(found, now),
    }


def standing(found: Certificate, now: dt.datetime) -> str:
    """What a certificate is good for now, in a word."""
    if found.revocation is not None:
        return f"revoked ({found.revocation.reason})"
    if found.is_expired(now):
        return "expired"
    return "replaced" if found.successor is not None else "good"


@click.command()
@click.argument("serial_number")
@config_option
@tenant_option
@json_option
def history(config_path: Path, slug: str | None, serial_number: str, as_json: bool) -> None:
    """Show what happened to a device, newest first: certificates, owners, refusals."""
    from certmint.enrolment.overview import life

    with installation(config_path) as here:
        found = life(here.db, tenant_of(here, slug), serial_number)
    rows = [
        {"at": each.at, "what": each.title, "detail": each.detail or None,
         "certificate": each.serial or None}
        for each in found.moments
    ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="nothing happened yet")


@click.command()
@click.argument("serial_number")
@click.argument("username")
@config_option
@tenant_option
def transfer(config_path: Path, slug: str | None, serial_number: str, username: str) -> None:
    """Hand a device from its owner to the owner USERNAME, at once."""
    from certmint.enrolment import ownership

    with installation(config_path) as here:
        ownership.hand_on(
            here.db, tenant_of(here, slug).id, serial_number, username,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{serial_number} belongs to {username}")


@click.command()
@click.argument("action", type=click.Choice(["suspend", "resume", "release"]))
@click.option(
    "--from", "path", type=click.Path(path_type=Path), required=True,
    help="File with serial numbers, one on each line; - is standard input.",
)  # fmt: skip
@config_option
@tenant_option
@json_option
@click.pass_context
def change(
    context: click.Context,
    config_path: Path,
    slug: str | None,
    action: str,
    path: Path,
    as_json: bool,
) -> None:
    """Suspend, resume or release every device that a file names.

    One that is refused is told on standard error, the others go on; then the exit code is 3.
    """
    wanted = read_list(path, "the list of serial numbers")
    refused = 0
    with installation(config_path) as here:
        act = _ACTIONS[action]
        tenant_id = tenant_of(here, slug).id
        for serial_number in wanted:
            try:
                act(here, tenant_id, serial_number)
            except CertmintError as refusal:
                refused += 1
                click.echo(f"{serial_number}: {refusal} [{refusal.code}]", err=True)
    print_item({"changed": len(wanted) - refused, "refused": refused}, as_json=as_json)
    if refused:
        context.exit(_REFUSED)


def _move(event: DeviceEvent) -> Callable[["Installation", str, str], None]:
    def act(here: "Installation", tenant_id: str, serial_number: str) -> None:
        from certmint.enrolment import devices

        devices.move(
            here.db, tenant_id, serial_number, event, by=console_operator(), now=here.clock()
        )

    return act


def _release(here: "Installation", tenant_id: str, serial_number: str) -> None:
    from certmint.enrolment import ownership

    ownership.release(
        here.db, tenant_id, serial_number, None, by=console_operator(), now=here.clock()
    )


_ACTIONS = {
    "suspend": _move(DeviceEvent.SUSPENDED),
    "resume": _move(DeviceEvent.RESUMED),
    "release": _release,
}
