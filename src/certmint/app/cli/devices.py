"""`certmint device`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    installation,
    json_option,
    new_secret_file,
    print_item,
    print_rows,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.fleet import (
    certificate_row,
    certificates,
    change,
    history,
    list_devices,
    transfer,
)
from certmint.app.cli.requests import approve, reject, requests
from certmint.model.entities import Device
from certmint.model.states import DeviceEvent

if TYPE_CHECKING:
    from certmint.app.wiring import Installation


@click.group()
def device() -> None:
    """Devices: list, show, history, claim, labels, requests, suspend, retire."""


for _command in (
    list_devices, certificates, history, transfer, change, requests, approve, reject,
):  # fmt: skip
    device.add_command(_command)


@device.command()
@click.argument("serial_number")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, serial_number: str, as_json: bool) -> None:
    """Show one device, its certificates, and when it will renew."""
    from certmint.enrolment import devices
    from certmint.enrolment.ownership import state_of
    from certmint.enrolment.renewal import renewal_window
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = devices.view_by_serial_number(here.db, tenant.id, serial_number)
        with here.db.read() as tx:
            held = reads.certificates(
                tx, tenant.id, device_id=found.device.id, after=None, limit=1000
            )
            hardware = reads.expected_hardware(tx, tenant.id, found.device.id)
            ownership = state_of(tx, found.device, here.clock()).value
    planned = renewal_window(found.service, found, here.clock()) if found.service else None
    now = here.clock()
    rows = [certificate_row(each, now) for each in held]
    item: dict[str, object] = {
        "serial_number": found.device.serial_number,
        "product": found.product.name,
        "label": found.device.label,
        "mac": found.device.mac or None,
        "state": found.device.state.value,
        "suspended_for": found.device.suspended_for or None,
        "names": list(map(str, found.product.names_of(found.device.label))),
        "batch": found.device.batch_id,
        "owner": found.device.owner_id,
        "ownership": ownership,
        "hardware": hardware,
        "renews_from": planned.start if planned else None,
        "renews_until": planned.end if planned else None,
    }
    if as_json:
        print_item(item | {"certificates": rows}, as_json=True)
        return
    print_item(item, as_json=False)
    click.echo()
    print_rows(rows, as_json=False, empty="no certificates yet")


@device.command()
@click.argument("serial_number")
@click.argument("username")
@config_option
@tenant_option
def claim(config_path: Path, slug: str | None, serial_number: str, username: str) -> None:
    """Make the owner USERNAME the owner of an unclaimed device."""
    from certmint.enrolment import devices

    with installation(config_path) as here:
        devices.claim(
            here.db, tenant_of(here, slug), serial_number, username,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{serial_number} belongs to {username}")


@device.command()
@click.argument("serial_number")
@config_option
@tenant_option
def release(config_path: Path, slug: str | None, serial_number: str) -> None:
    """Take a device from its owner, so that somebody else can claim it."""
    from certmint.enrolment import ownership

    with installation(config_path) as here:
        ownership.release(
            here.db, tenant_of(here, slug).id, serial_number, None,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{serial_number} has no owner")


@device.command()
@click.argument("serial_number")
@click.argument("version")
@config_option
@tenant_option
def firmware(config_path: Path, slug: str | None, serial_number: str, version: str) -> None:
    """Note which firmware a device runs, so that campaigns can choose by it."""
    from certmint.enrolment import campaigns

    with installation(config_path) as here:
        campaigns.report_firmware(
            here.db, tenant_of(here, slug), serial_number, version,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{serial_number} runs {version}")


@device.command()
@click.argument("serial_number")
@click.argument("identifier")
@config_option
@tenant_option
def expect(config_path: Path, slug: str | None, serial_number: str, identifier: str) -> None:
    """Register the hardware in a device: KIND:VALUE, such as tpm-ek:<SHA-256 of the EK's SPKI>."""
    from certmint.enrolment import attesting

    with installation(config_path) as here:
        name = attesting.expect(
            here.db, tenant_of(here, slug), serial_number, identifier,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{serial_number} is expected to have {name}")


@device.command()
@click.argument("serial_number")
@config_option
@tenant_option
@json_option
def secret(config_path: Path, slug: str | None, serial_number: str, as_json: bool) -> None:
    """Make a new label for one device: enrolment secret and claim code. The old ones end."""
    from certmint.enrolment import devices

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = devices.view_by_serial_number(here.db, tenant.id, serial_number).device
        (made,) = _labels(here, tenant.id, [found])
    print_item(made, as_json=as_json)


@device.command()
@click.option("--batch", required=True, help="The batch whose labels are printed.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new CSV file.")
@config_option
@tenant_option
def labels(config_path: Path, slug: str | None, batch: str, out: Path) -> None:
    """Make new labels for every device of a batch, into a file for the label printer.

    The file holds secrets: print it, and destroy it.
    """
    from certmint.enrolment.batches import batch_of
    from certmint.registry import reads

    lines = ["serial,enrolment_secret,claim_code"]
    with new_secret_file(out) as file, installation(config_path) as here:
        tenant = tenant_of(here, slug)
        batch_of(here.db, tenant, batch)
        after = 0
        while True:
            with here.db.read() as tx:
                found = reads.batch_devices(tx, tenant.id, batch, after_line=after)
            if not found:
                break
            lines += [",".join(row.values()) for row in _labels(here, tenant.id, found)]
            after = found[-1].line or after
        file.write("\n".join(lines) + "\n")
    click.echo(f"{len(lines) - 1} labels in {out}; destroy the file when they are printed")


@device.command("transport-key")
@click.argument("serial_number")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new file.")
@config_option
@tenant_option
def transport_key(config_path: Path, slug: str | None, serial_number: str, out: Path) -> None:
    """Write the key that a device shares with this installation into a file of its own.

    EST's serverkeygen encrypts to it where the CSR has a DecryptKeyIdentifier. The file has both
    in hex, as `openssl cms -decrypt -secretkeyid … -secretkey …` takes them. Put it into the
    device, and destroy it; that it was read is in the audit log.
    """
    from certmint.app.wiring import TRANSPORT, derived_key
    from certmint.enrolment import delivery, devices

    with new_secret_file(out) as file, installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = devices.view_by_serial_number(here.db, tenant.id, serial_number).device
        identifier, key = delivery.hand_out(
            here.db, derived_key(here.config, TRANSPORT), found,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
        file.write(f"secretkeyid={identifier.hex()}\nsecretkey={key.hex()}\n")
    click.echo(f"the transport key of {serial_number} is in {out}; destroy it when it is there")


def _labels(here: "Installation", tenant_id: str, found: list[Device]) -> list[dict[str, str]]:
    from certmint.app.wiring import SECRETS, derived_key
    from certmint.enrolment.secrets import make_labels

    made = make_labels(
        here.db, tenant_id, found, derived_key(here.config, SECRETS),
        by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
    )  # fmt: skip
    return [
        {
            "serial": each.serial_number,
            "enrolment_secret": each.enrolment_secret,
            "claim_code": each.claim_code,
        }
        for each in made
    ]


def _moving(name: str, event: DeviceEvent, about: str) -> None:
    @device.command(name, help=about)
    @click.argument("serial_number")
    @config_option
    @tenant_option
    def command(config_path: Path, slug: str | None, serial_number: str) -> None:
        from certmint.enrolment import devices

        with installation(config_path) as here:
            moved = devices.move(
                here.db, tenant_of(here, slug).id, serial_number, event,
                by=console_operator(), now=here.clock(),
            )  # fmt: skip
        click.echo(f"{serial_number} is {moved.state}")


_moving("suspend", DeviceEvent.SUSPENDED, "Refuse a device's requests until it is resumed.")
_moving("resume", DeviceEvent.RESUMED, "Let a suspended device in again.")


@device.command()
@click.argument("serial_number")
@config_option
@tenant_option
@click.confirmation_option(prompt="Every live certificate of the device is revoked. Go on?")
def retire(config_path: Path, slug: str | None, serial_number: str) -> None:
    """Take a device out of service for good, and revoke its certificates."""
    from certmint.enrolment.revocation import retire_device

    with installation(config_path) as here:
        revoked = retire_device(
            here.db, here.keys, tenant_of(here, slug).id, serial_number,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{serial_number} is retired; {len(revoked)} certificates revoked")
