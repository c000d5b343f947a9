"""`certmint batch`: factory runs."""

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    installation,
    json_option,
    new_secret_file,
    print_item,
    read_file,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.app.wiring import Installation
from certmint.model.entities import Batch, Manufacturer
from certmint.model.errors import BadInput, Refused


@click.group()
def batch() -> None:
    """Factory runs: a manifest in, packages for the line out."""


def _minting(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--out", type=click.Path(path_type=Path), required=True,
                     help="Folder for the packages, the result, and the keys under way."),
        click.option("--format", "package_format", default="pem", show_default=True,
                     type=click.Choice(["pem", "der", "pkcs12", "jsonl"])),
        click.option("--passphrase-file", type=click.Path(path_type=Path), default=None,
                     help="Encrypts the private keys in the packages."),
        click.option("--plain-keys", is_flag=True, help="The line needs keys in the clear."),
        config_option, tenant_option, json_option,
    ):  # fmt: skip
        command = option(command)
    return command


@batch.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--product", "product_name", required=True)
@_minting
def mint(
    config_path: Path,
    slug: str | None,
    manifest: Path,
    product_name: str,
    out: Path,
    package_format: str,
    passphrase_file: Path | None,
    plain_keys: bool,
    as_json: bool,
) -> None:
    """Mint every device of MANIFEST (CSV: serial, mac, label), or continue where it stopped."""
    from certmint.enrolment.batches import submit
    from certmint.enrolment.products import product_named
    from certmint.model.manifest import parse_manifest

    passphrase = _passphrase(passphrase_file, plain_keys)
    parsed = parse_manifest(read_file(manifest, "the manifest"))
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        product = product_named(here.db, tenant, product_name)
        submitted = submit(
            here.db, tenant, product, parsed,
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
        _mint(here, tenant, submitted, out, package_format, passphrase, as_json=as_json)


@batch.command()
@click.argument("batch_id")
@_minting
def resume(
    config_path: Path,
    slug: str | None,
    batch_id: str,
    out: Path,
    package_format: str,
    passphrase_file: Path | None,
    plain_keys: bool,
    as_json: bool,
) -> None:
    """Continue BATCH_ID in the folder where it stopped."""
    from certmint.enrolment.batches import batch_of

    passphrase = _passphrase(passphrase_file, plain_keys)
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        known = batch_of(here.db, tenant, batch_id)
        _mint(here, tenant, known, out, package_format, passphrase, as_json=as_json)


def _passphrase(path: Path | None, plain: bool) -> bytes:
    if plain == (path is not None):
        raise BadInput(
            "passphrase-choice",
            "say --passphrase-file FILE, or --plain-keys if the line needs that",
        )
    if path is None:
        return b""
    from certmint.model.pbes2 import MIN_PASSPHRASE

    passphrase = read_file(path, "the passphrase", 4096).rstrip(b"\r\n")
    if len(passphrase) < MIN_PASSPHRASE:
        raise BadInput(
            "passphrase-short",
            f"the passphrase in {path} is shorter than {MIN_PASSPHRASE} characters",
        )
    return passphrase


def _mint(
    here: Installation,
    tenant: Manufacturer,
    wanted: Batch,
    out: Path,
    package_format: str,
    passphrase: bytes,
    *,
    as_json: bool,
) -> None:
    from certmint.enrolment.minting import RESULT_FILE, mint_into
    from certmint.enrolment.packages import PackageFormat

    hint = f"certmint batch resume {wanted.id} --out {out}"
    with _progress(wanted, hint) as advance:
        refused = mint_into(
            here.db, here.gate, tenant, wanted, out, PackageFormat(package_format), passphrase,
            clock=here.clock, random_bytes=here.random_bytes, progress=advance,
        )  # fmt: skip
    print_item(
        {"batch": wanted.id, "devices": wanted.size, "minted": wanted.size - len(refused),
         "refused": len(refused), "packages": str(out), "result": str(out / RESULT_FILE)},
        as_json=as_json,
    )  # fmt: skip
    if refused:
        first = refused[0]
        raise Refused(
            first.code,
            f"{len(refused)} devices were refused, first {first.serial_number}: {first.detail}; "
            f"mend that and run: {hint}",
        )


@contextmanager
def _progress(wanted: Batch, hint: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, plain lines elsewhere; Ctrl-C stops between two chunks."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())

    def check() -> None:
        if stopped.is_set():
            click.echo(f"\nstopped; nothing is lost. Continue with: {hint}", err=True)
            raise click.Abort

    try:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, TimeRemainingColumn

            console = Console(stderr=True)
            with Progress(
                *Progress.get_default_columns()[:2], "{task.completed}/{task.total}",
                TimeRemainingColumn(), console=console,
            ) as bar:  # fmt: skip
                task = bar.add_task("minting", total=wanted.size)

                def advance(count: int) -> None:
                    bar.advance(task, count)
                    check()

                yield advance
        else:
            done = 0

            def report(count: int) -> None:
                nonlocal done
                done += count
                if done:
                    click.echo(f"minted {done} of {wanted.size}", err=True)
                check()

            yield report
    finally:
        signal.signal(signal.SIGINT, before)


@batch.command("list")
@paging_options
@config_option
@tenant_option
@json_option
def list_batches(config_path: Path, slug: str | None, paging: Paging, as_json: bool) -> None:
    """List the batches, oldest first."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)

        def fetch(after: str | None, limit: int) -> list[Batch]:
            with here.db.read() as tx:
                return reads.batches(tx, tenant.id, after=after, limit=limit)

        print_pages(
            paging, fetch, _row, lambda each: each.id, as_json=as_json,
            empty="no batches yet: `certmint batch mint MANIFEST`",
        )  # fmt: skip


def _row(found: Batch) -> dict[str, object]:
    return {
        "id": found.id,
        "state": found.state.value,
        "devices": found.size,
        "created_at": found.created_at,
    }


@batch.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--product", "product_name", required=True)
@config_option
@tenant_option
@json_option
def submit(
    config_path: Path, slug: str | None, manifest: Path, product_name: str, as_json: bool
) -> None:
    """Take MANIFEST in (CSV or NDJSON) and mint nothing yet. The same one is the same batch."""
    from certmint.enrolment import batches
    from certmint.enrolment.products import product_named
    from certmint.model.manifest import parse_manifest

    parsed = parse_manifest(read_file(manifest, "the manifest"))
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        made = batches.submit(
            here.db, tenant, product_named(here.db, tenant, product_name), parsed,
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    print_item(_row(made), as_json=as_json)


@batch.command()
@click.argument("batch_id")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new file.")
@config_option
@tenant_option
def packages(config_path: Path, slug: str | None, batch_id: str, out: Path) -> None:
    """Copy what this node's server minted of BATCH_ID: one package a line, keys encrypted."""
    from certmint.enrolment import work

    with installation(config_path) as here:
        source = work.packages_file(
            here.db, tenant_of(here, slug), _packages_folder(here), batch_id
        )
        with new_secret_file(out) as file, source.open() as lines:
            shutil.copyfileobj(lines, file)
    click.echo(f"the packages of {batch_id} are in {out}")


@batch.command("drop-packages")
@click.argument("batch_id")
@config_option
@tenant_option
@click.confirmation_option(prompt="Without a copy, the keys in them are gone. Go on?")
def drop_packages(config_path: Path, slug: str | None, batch_id: str) -> None:
    """Forget what this node's server minted of BATCH_ID, once the line has it."""
    from certmint.enrolment import batches, work

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        source = work.packages_file(here.db, tenant, _packages_folder(here), batch_id)
        batches.drop_packages(
            here.db, tenant, batch_id, source, by=console_operator(), now=here.clock()
        )
    click.echo(f"the packages of {batch_id} are gone")


def _packages_folder(here: Installation) -> Path:
    return here.config.resolve(here.config.settings.rest.packages)


@batch.command()
@click.argument("batch_id")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, batch_id: str, as_json: bool) -> None:
    """Show how far BATCH_ID is."""
    from certmint.enrolment.batches import batch_of
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = batch_of(here.db, tenant, batch_id)
        with here.db.read() as tx:
            counts = reads.count_devices_by_state(tx, tenant.id, found.id)
    item: dict[str, object] = {
        "id": found.id,
        "state": found.state.value,
        "devices": found.size,
        "manifest_sha256": found.manifest_hash,
    }
    print_item(item | {state.value: count for state, count in counts.items()}, as_json=as_json)
