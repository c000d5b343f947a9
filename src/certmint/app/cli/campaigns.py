"""`certmint campaign`: replace or revoke a chosen set of certificates by a deadline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    days,
    installation,
    json_option,
    print_item,
    read_file,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.model.campaign import AfterReplacing, AtDeadline, CampaignKind, Plan, Selection
from certmint.model.entities import RevocationReason
from certmint.model.errors import BadInput
from certmint.model.keys import KeyKind
from certmint.model.profile import Purpose

if TYPE_CHECKING:
    from certmint.app.wiring import Installation
    from certmint.enrolment.campaigns import Preview
    from certmint.model.campaign import Campaign
    from certmint.model.entities import Manufacturer

_PURPOSES = {"service": Purpose.SERVICE, "identity": Purpose.IDENTITY, "any": None}


@click.group()
def campaign() -> None:
    """Replace or revoke a chosen set of certificates by a deadline."""


def _selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """What certificates have in common; all that is given must hold."""
    for option in reversed((
        click.option("--product", default=None, help="Devices of this product."),
        click.option("--batch", "batch_id", default=None, help="Devices of this batch."),
        click.option("--firmware", default=None, help="Devices that reported this firmware."),
        click.option("--authority", default=None, help="Certificates of this authority."),
        click.option("--profile", default=None, help="Certificates of this profile."),
        click.option(
            "--key-kind", type=click.Choice([each.value for each in KeyKind]), default=None,
            help="Certificates for keys of this kind.",
        ),
        click.option(
            "--key", "fingerprints", multiple=True,
            help="SHA-256 of a key's SubjectPublicKeyInfo; may be repeated.",
        ),
        click.option(
            "--serials", "serials_path", type=click.Path(path_type=Path), default=None,
            help="File with devices' serial numbers, one on each line.",
        ),
        click.option(
            "--purpose", type=click.Choice(list(_PURPOSES)), default="service", show_default=True,
        ),
    )):  # fmt: skip
        command = option(command)
    return command


@campaign.command()
@click.argument("name")
@click.option("--kind", type=click.Choice([each.value for each in CampaignKind]), required=True)
@_selection
@click.option("--deadline", required=True, help="When it shall be over: 7d, 12h from now.")
@click.option("--start-in", default="0s", show_default=True, help="When it begins, from now.")
@click.option(
    "--reason", type=click.Choice([each.value for each in RevocationReason]),
    default=RevocationReason.SUPERSEDED.value, show_default=True,
)  # fmt: skip
@click.option(
    "--revoke-replaced", "grace", default=None, metavar="GRACE",
    help="replace: revoke the old certificate so long after its successor (0s: at once).",
)  # fmt: skip
@click.option("--at-deadline", type=click.Choice(["revoke", "report"]), default="report")
@click.option("--explanation-url", default="", help="Shown to clients that ask when to renew.")
@config_option
@tenant_option
@json_option
def preview(
    config_path: Path,
    slug: str | None,
    name: str,
    kind: str,
    deadline: str,
    start_in: str,
    reason: str,
    grace: str | None,
    at_deadline: str,
    explanation_url: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Draft a campaign and show what it would touch. Nothing happens before `start`."""
    from certmint.enrolment import campaigns

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        now = here.clock()
        plan = Plan(
            kind=CampaignKind(kind),
            starts_at=now + days(start_in),
            deadline=now + days(deadline),
            reason=RevocationReason(reason),
            after_replacing=AfterReplacing.KEEP if grace is None else AfterReplacing.REVOKE,
            grace=days(grace or "0s"),
            at_deadline=AtDeadline(at_deadline),
            explanation_url=explanation_url,
        )
        seen = campaigns.preview(
            here.db, tenant, name, _chosen(here, tenant, chosen), plan,
            by=console_operator(), now=now, random_bytes=here.random_bytes, above=_above(here),
        )  # fmt: skip
    print_item(_previewed(seen), as_json=as_json)


def _chosen(here: "Installation", tenant: "Manufacturer", said: dict[str, Any]) -> Selection:
    from certmint.enrolment.products import product_named

    product, authority, path = said["product"], said["authority"], said["serials_path"]
    serials: list[str] = []
    if path is not None:
        text = read_file(path, "the list of serial numbers").decode("utf-8", "replace")
        serials = [line.strip() for line in text.splitlines() if line.strip()]
        if not serials:
            raise BadInput("campaign-selection", f"{path} holds no serial numbers")
    return Selection(
        product_id=product_named(here.db, tenant, product).id if product else None,
        batch_id=said["batch_id"],
        firmware=said["firmware"],
        authority_id=_authority_id(here, tenant, authority) if authority else None,
        profile=said["profile"],
        key_kind=KeyKind(said["key_kind"]) if said["key_kind"] else None,
        purpose=_PURPOSES[said["purpose"]],
        key_fingerprints=tuple(each.lower() for each in said["fingerprints"]),
        serial_numbers=tuple(dict.fromkeys(serials)),
    )


def _authority_id(here: "Installation", tenant: "Manufacturer", name: str) -> str:
    from certmint.enrolment.authorities import authority_named

    with here.db.read() as tx:
        return authority_named(tx, tenant.id, name).id


def _above(here: "Installation") -> int:
    return here.config.settings.campaigns.four_eyes_above


def _previewed(seen: "Preview") -> dict[str, object]:
    by_state = seen.chosen.by_device_state
    return _described(seen.campaign) | {
        "devices": seen.chosen.devices,
        "certificates": seen.chosen.certificates,
        "by_device_state": [f"{count} {name}" for name, count in by_state.items()],
        "examples": [", ".join(each.names) or each.subject for each in seen.samples],
        "needs_approval": "yes, by somebody else" if seen.needs_approval else "no",
    }


def _described(found: "Campaign") -> dict[str, object]:
    return {
        "id": found.id,
        "name": found.name,
        "kind": found.plan.kind.value,
        "state": found.state.value,
        "starts_at": found.plan.starts_at,
        "deadline": found.plan.deadline,
        "created_by": found.created_by,
        "approved_by": found.approved_by or None,
    }


def _progress(found: "Campaign") -> dict[str, object]:
    names = ("size", "pending", "replaced", "retired", "revoked", "missed", "gone")
    return {name: getattr(found, name) for name in names}


def _step(
    action: str, config_path: Path, slug: str | None, campaign_id: str, as_json: bool
) -> None:
    from certmint.enrolment import campaigns

    with installation(config_path) as here:
        tenant, by, now = tenant_of(here, slug), console_operator(), here.clock()
        if action == "start":
            found = campaigns.start(
                here.db, tenant, campaign_id, by=by, now=now, above=_above(here)
            )
        else:
            work = getattr(campaigns, action)
            found = work(here.db, tenant, campaign_id, by=by, now=now)
    print_item(_described(found) | _progress(found), as_json=as_json)


def _step_command(action: str, about: str) -> click.Command:
    @click.command(action, help=about)
    @click.argument("campaign_id")
    @config_option
    @tenant_option
    @json_option
    def command(config_path: Path, slug: str | None, campaign_id: str, as_json: bool) -> None:
        _step(action, config_path, slug, campaign_id, as_json)

    return command


for _action, _about in (
    ("start", "Begin a draft; one that needs a second person waits for `approve`."),
    ("approve", "Agree to a campaign that somebody else drafted, which begins it."),
    ("pause", "Stop after the piece at hand."),
    ("resume", "Go on where it was paused."),
    ("cancel", "End it for good; what is done stays done."),
):
    campaign.add_command(_step_command(_action, _about))


@campaign.command("list")
@paging_options
@config_option
@tenant_option
@json_option
def list_campaigns(config_path: Path, slug: str | None, paging: Paging, as_json: bool) -> None:
    """List campaigns, oldest first, with their progress."""
    from certmint.registry import reads

    def row(found: "Campaign") -> dict[str, object]:
        return {
            "id": found.id, "name": found.name, "kind": found.plan.kind.value,
            "state": found.state.value, "deadline": found.plan.deadline, "size": found.size,
            "pending": found.pending,
        }  # fmt: skip

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)

        def fetch(after: str | None, limit: int) -> "list[Campaign]":
            with here.db.read() as tx:
                return reads.campaigns(tx, tenant.id, after=after, limit=limit)

        print_pages(
            paging, fetch, row, lambda each: each.id, as_json=as_json,
            empty="no campaigns yet: `certmint campaign preview NAME`",
        )  # fmt: skip


@campaign.command()
@click.argument("campaign_id")
@click.option("--preview", "looks", is_flag=True, help="And what it chooses at this moment.")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, campaign_id: str, looks: bool, as_json: bool) -> None:
    """Show a campaign: its plan, and what became of its members."""
    from certmint.enrolment import campaigns

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = campaigns.campaign(here.db, tenant, campaign_id)
        seen = None
        if looks:
            seen = campaigns.look(here.db, tenant, campaign_id, here.clock(), _above(here))
    plan = found.plan
    item = _described(found) | {
        "reason": plan.reason.value,
        "after_replacing": plan.after_replacing.value,
        "grace": str(plan.grace),
        "at_deadline": plan.at_deadline.value,
        "explanation_url": plan.explanation_url or None,
    }
    item |= _progress(found) | (_previewed(seen) if seen else {})
    print_item(item, as_json=as_json)


@campaign.command()
@click.argument("campaign_id")
@config_option
@tenant_option
def report(config_path: Path, slug: str | None, campaign_id: str) -> None:
    """Print what became of every certificate: one JSON object on each line."""
    from certmint.enrolment import campaigns

    with installation(config_path) as here:
        for line in campaigns.report(here.db, tenant_of(here, slug), campaign_id):
            click.echo(json.dumps(line))
