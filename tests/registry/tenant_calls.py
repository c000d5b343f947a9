"""Every read and write of a tenant's data, as a stranger would call it."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

from certmint.model.acme import (
    AccountEvent,
    AccountState,
    AuthorizationEvent,
    AuthorizationState,
    ChallengeEvent,
    ChallengeState,
    OrderEvent,
    OrderState,
)
from certmint.model.campaign import CampaignEvent, CampaignState, MemberState, Selection
from certmint.model.desk import ApprovalState
from certmint.model.entities import RevocationReason, Wish
from certmint.model.mail import MailEvent, MailState
from certmint.model.profile import SERVICE, Purpose
from certmint.model.states import (
    BatchEvent,
    BatchState,
    DeviceEvent,
    DeviceState,
    RequestEvent,
    RequestState,
)
from certmint.model.sws import OrderEvent as SWSEvent
from certmint.registry import audit, reads, writes
from certmint.registry.reads.askers import AnchorRow, Pairing

from .belongings import asked, bought, letter, offer, seen, waiting

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=1)
WHO: dict[str, Any] = {"by": "eve", "at": NOW}
ROOT = AnchorRow("tpm", "ab", b"der", NOW)
NOTHING: tuple[object, ...] = (None, 0, [], {}, (), reads.CertificateCounts(0, 0, 0))


@dataclasses.dataclass
class Things:
    """One of everything that the manufacturer under test has."""

    maker: Any
    operator: Any
    validation: Any
    owner: Any
    device: Any
    certificate: Any
    client: Any
    order: Any

    @property
    def challenge(self) -> str:
        return f"dns-01-{self.order.authorization_ids[0]}"


def own_events(events: list[audit.Entry]) -> list[audit.Entry]:
    return [event for event in events if event.action != "manufacturer.added"]


# Every read that takes a tenant: asked for this tenant, for the things of `maker`.
Read = Callable[[reads.Transaction, str, Things], object]
READS: dict[str, Read] = {
    "operator": lambda tx, t, x: reads.operator(tx, t, x.operator.id),
    "operator_by_name": lambda tx, t, x: reads.operator_by_name(tx, t, x.operator.name),
    "operators": lambda tx, t, _: reads.operators(tx, t),
    "operator_of_identity": lambda tx, t, _: reads.operator_of_identity(tx, t, "https://idp", "a"),
    "tokens": lambda tx, t, x: reads.tokens(tx, t, x.operator.id),
    "approval": lambda tx, t, _: reads.approval(tx, t, "apr"),
    "approvals": lambda tx, t, _: reads.approvals(tx, t, state=ApprovalState.PENDING),
    "credential_givers": lambda tx, t, s: reads.credential_givers(tx, t, {s.operator.id}, NOW),
    "job": lambda tx, t, _: reads.job(tx, t, "job"),
    "count_open_jobs": lambda tx, t, _: reads.count_open_jobs(tx, t),
    "count_open_approvals": lambda tx, t, _: reads.count_open_approvals(tx, t, NOW),
    "jobs": lambda tx, t, _: reads.jobs(tx, t),
    "answer": lambda tx, t, x: reads.answer(tx, t, x.operator.id, "key"),
    "owners": lambda tx, t, _: reads.owners(tx, t),
    "count_ending": lambda tx, t, _: [
        each for each in reads.count_ending(tx, t, [NOW + dt.timedelta(days=10_000)]) if each
    ],
    "events_of": lambda tx, t, x: reads.events_of(tx, t, x.operator.id),
    "latest_events": lambda tx, t, _: reads.latest_events(tx, t, "operator.added"),
    "ending_certificates": lambda tx, t, _: reads.ending_certificates(
        tx, t, NOW + dt.timedelta(days=10_000), since=NOW - dt.timedelta(days=1)
    ),
    "domain_validation": lambda tx, t, x: reads.domain_validation(tx, t, x.validation.id),
    "domain_validations": lambda tx, t, x: reads.domain_validations(tx, t, x.validation.domain),
    "campaign": lambda tx, t, _: reads.campaign(tx, t, "cmp"),
    "campaigns": lambda tx, t, _: reads.campaigns(tx, t),
    "campaign_call": lambda tx, t, x: reads.campaign_call(
        tx, t, x.maker.authority.id, x.certificate.serial
    ),
    "campaign_members": lambda tx, t, _: reads.campaign_members(
        tx, t, "cmp", state=MemberState.PENDING
    ),
    "campaign_report": lambda tx, t, _: reads.campaign_report(tx, t, "cmp"),
    "count_chosen": lambda tx, t, _: (
        reads.count_chosen(tx, t, Selection(profile="service"), LATER).certificates
    ),
    "sample_chosen": lambda tx, t, _: reads.sample_chosen(
        tx, t, Selection(profile="service"), LATER
    ),
    "serial_after": lambda tx, t, _: reads.serial_after(tx, t, "", 10),
    "domain_mails": lambda tx, t, x: reads.domain_mails(tx, t, x.validation.id),
    "count_domain_mails": lambda tx, t, _: reads.count_domain_mails(
        tx, t, "admin@example.com", NOW - dt.timedelta(days=1)
    ),
    "verified_domains": lambda tx, t, _: reads.verified_domains(tx, t),
    "authority": lambda tx, t, x: reads.authority(tx, t, x.maker.authority.id),
    "authority_by_name": lambda tx, t, x: reads.authority_by_name(tx, t, x.maker.authority.name),
    "authorities": lambda tx, t, _: reads.authorities(tx, t),
    "known_authorities": lambda tx, t, _: reads.known_authorities(tx, t),
    "profile": lambda tx, t, _: reads.profile(tx, t, "service"),
    "profiles": lambda tx, t, _: reads.profiles(tx, t),
    "product": lambda tx, t, x: reads.product(tx, t, x.maker.product.id),
    "product_by_name": lambda tx, t, x: reads.product_by_name(tx, t, x.maker.product.name),
    "products": lambda tx, t, _: reads.products(tx, t, after="a"),
    "device": lambda tx, t, x: reads.device(tx, t, x.device.id),
    "device_by_serial_number": lambda tx, t, x: reads.device_by_serial_number(
        tx, t, x.device.serial_number
    ),
    "devices": lambda tx, t, x: reads.devices(tx, t, after="A", state=x.device.state),
    "devices_by_id": lambda tx, t, x: reads.devices_by_id(tx, t, [x.device.id]),
    "batch_devices": lambda tx, t, x: reads.batch_devices(tx, t, x.maker.batch.id),
    "count_devices_by_state": lambda tx, t, x: reads.count_devices_by_state(
        tx, t, x.maker.batch.id
    ),
    "batch": lambda tx, t, x: reads.batch(tx, t, x.maker.batch.id),
    "batch_by_manifest": lambda tx, t, x: reads.batch_by_manifest(
        tx, t, x.maker.product.id, x.maker.batch.manifest_hash
    ),
    "batches": lambda tx, t, _: reads.batches(tx, t, after="a"),
    "owner": lambda tx, t, x: reads.owner(tx, t, x.owner.id),
    "owner_credentials": lambda tx, t, x: reads.owner_credentials(tx, t, x.owner.username),
    "issuance": lambda tx, t, x: reads.issuance(tx, t, x.certificate.serial),
    "certificate": lambda tx, t, x: reads.certificate(
        tx, t, x.certificate.serial, x.maker.authority.id
    ),
    "certificate_der": lambda tx, t, x: reads.certificate_der(
        tx, t, x.maker.authority.id, x.certificate.serial
    ),
    "certificates": lambda tx, t, x: reads.certificates(tx, t, device_id=x.device.id, after="0"),
    "latest_certificate": lambda tx, t, x: reads.latest_certificate(
        tx, t, x.device.id, Purpose.SERVICE
    ),
    "certificates_with_key": lambda tx, t, x: reads.certificates_with_key(
        tx, t, x.certificate.key_fingerprint
    ),
    "count_certificates": lambda tx, t, _: reads.count_certificates(tx, t),
    "batch_certificates": lambda tx, t, x: reads.batch_certificates(tx, t, [x.device.id]),
    "acme_directories": lambda tx, t, _: reads.acme_directories(tx, t),
    "acme_accounts": lambda tx, t, _: reads.acme_accounts(tx, t, after="a"),
    "acme_accounts_with_key": lambda tx, t, x: reads.acme_accounts_with_key(
        tx, t, x.client.account.thumbprint
    ),
    "acme_bindings": lambda tx, t, _: reads.acme_bindings(tx, t, after="a"),
    "acme_order_of_serial": lambda tx, t, x: reads.acme_order_of_serial(
        tx, t, x.certificate.serial
    ),
    "label_secret": lambda tx, t, x: reads.label_secret(tx, t, x.device.id, "claim"),
    "sighting": lambda tx, t, x: reads.sighting(tx, t, x.device.id),
    "device_id_by_hardware": lambda tx, t, _: reads.device_id_by_hardware(tx, t, "tpm-ek:ab"),
    "expected_hardware": lambda tx, t, x: reads.expected_hardware(tx, t, x.device.id),
    "attestation_anchors": lambda tx, t, x: reads.attestation_anchors(tx, t, x.maker.product.id),
    "device_transfer": lambda tx, t, x: reads.device_transfer(tx, t, x.device.id, NOW),
    "device_pairings": lambda tx, t, x: reads.device_pairings(tx, t, x.device.id, NOW),
    "owner_of_identity": lambda tx, t, _: reads.owner_of_identity(tx, t, "https://login", "jo"),
    "owner_identities": lambda tx, t, _: reads.owner_identities(tx, t, ("a", "a"), 10),
    "device_login": lambda tx, t, x: reads.device_login(tx, t, x.device.id),
    "sws_order": lambda tx, t, _: reads.sws_order(tx, t, "co-1"),
    "sws_orders": lambda tx, t, _: reads.sws_orders(tx, t, reads.OrderFilter(search="r1.exa")),
    "device_request": lambda tx, t, _: reads.device_request(tx, t, "req"),
    "device_request_for": lambda tx, t, x: reads.device_request_for(
        tx, t, x.device.id, Wish.CERTIFICATE, "key"
    ),
    "device_requests": lambda tx, t, x: reads.device_requests(
        tx, t, NOW, state=RequestState.PENDING, device_id=x.device.id
    ),
    "count_device_requests": lambda tx, t, x: reads.count_device_requests(tx, t, NOW, x.device.id),
    "audit_events": lambda tx, t, _: own_events(reads.audit_events(tx, t)),
}

# Every write that takes a tenant, aimed at the things of `maker`.
Write = Callable[[reads.Transaction, str, Things], object]
WRITES: dict[str, Write] = {
    "revoke_token": lambda tx, t, _: writes.revoke_token(tx, t, "tok", **WHO),
    "close_operator_sessions": lambda tx, t, x: writes.close_operator_sessions(
        tx, t, x.operator.id, **WHO
    ),
    "advance_job": lambda tx, t, _: writes.advance_job(tx, t, "job", 1, 2),
    "mark_domain_verified": lambda tx, t, x: writes.mark_domain_verified(
        tx, t, x.validation.id, NOW, "claimed", by="eve"
    ),
    "take_domain_mail": lambda tx, t, x: writes.take_domain_mail(
        tx, t, letter(x.validation), LATER
    ),
    "postpone_domain_mail": lambda tx, t, _: writes.postpone_domain_mail(
        tx, t, "mail-1", LATER, "mine"
    ),
    "move_domain_mail": lambda tx, t, _: writes.move_domain_mail(
        tx, t, "mail-1", MailState.QUEUED, MailEvent.APPROVED, **WHO
    ),
    "note_domain_lapsing": lambda tx, t, x: writes.note_domain_lapsing(
        tx, t, x.validation.id, **WHO
    ),
    "move_campaign": lambda tx, t, _: writes.move_campaign(
        tx, t, "cmp", CampaignState.GATHERING, CampaignEvent.CANCELLED, **WHO
    ),
    "set_device_firmware": lambda tx, t, x: writes.set_device_firmware(
        tx, t, x.device.id, "mine", **WHO
    ),
    "certify_authority": lambda tx, t, x: writes.certify_authority(
        tx, t, "ca-alpha-pending", x.maker.serial(), b"mine", NOW, NOW, **WHO
    ),
    "retire_authority": lambda tx, t, x: writes.retire_authority(
        tx, t, x.maker.authority.id, **WHO
    ),
    "move_device": lambda tx, t, x: writes.move_device(
        tx, t, x.device.id, DeviceState.EXPECTED, DeviceEvent.RETIRED, **WHO
    ),
    "move_devices": lambda tx, t, x: writes.move_devices(
        tx, t, [x.device.id], DeviceState.EXPECTED, DeviceEvent.RETIRED, **WHO
    ),
    "set_device_owner": lambda tx, t, x: writes.set_device_owner(
        tx, t, x.device.id, x.owner.id, None, **WHO
    ),
    "move_batch": lambda tx, t, x: writes.move_batch(
        tx, t, x.maker.batch.id, BatchState.DRAFT, BatchEvent.STARTED, **WHO
    ),
    "revoke_certificate": lambda tx, t, x: writes.revoke_certificate(
        tx, t, x.maker.authority.id, x.certificate.serial, RevocationReason.SUPERSEDED, **WHO
    ),
    "update_acme_contacts": lambda tx, t, x: writes.update_acme_contacts(
        tx, t, x.client.account.id, (), **WHO
    ),
    "agree_acme_terms": lambda tx, t, x: writes.agree_acme_terms(
        tx, t, x.client.account.id, "https://terms.example", by="x", at=NOW
    ),
    "close_acme_account": lambda tx, t, x: writes.close_acme_account(
        tx, t, x.client.account.id, "{}", NOW
    ),
    "note_acme_binding_attacked": lambda tx, t, x: writes.note_acme_binding_attacked(
        tx, t, x.client.binding.id, 20, by="x", at=NOW
    ),
    "move_acme_account": lambda tx, t, x: writes.move_acme_account(
        tx, t, x.client.account.id, AccountState.VALID, AccountEvent.REVOKED, **WHO
    ),
    "change_acme_key": lambda tx, t, x: writes.change_acme_key(
        tx, t, x.client.account.id, x.client.account.thumbprint, "mine", "{}", **WHO
    ),
    "spend_acme_binding": lambda tx, t, x: writes.spend_acme_binding(
        tx, t, x.client.binding.id, "mine", **WHO
    ),
    "rebind_acme_binding": lambda tx, t, x: writes.rebind_acme_binding(
        tx, t, x.client.binding.id, **WHO
    ),
    "revoke_acme_binding": lambda tx, t, x: writes.revoke_acme_binding(
        tx, t, x.client.binding.id, **WHO
    ),
    "move_acme_order": lambda tx, t, x: writes.move_acme_order(
        tx, t, x.order.id, OrderState.PENDING, OrderEvent.AUTHORIZED, at=NOW
    ),
    "move_acme_authorization": lambda tx, t, x: writes.move_acme_authorization(
        tx,
        t,
        x.order.authorization_ids[0],
        AuthorizationState.PENDING,
        AuthorizationEvent.VALIDATED,
        **WHO,
    ),
    "move_acme_challenge": lambda tx, t, x: writes.move_acme_challenge(
        tx, t, x.challenge, ChallengeState.PENDING, ChallengeEvent.ANSWERED, at=NOW
    ),
    "set_label_secrets": lambda tx, t, x: writes.set_label_secrets(
        tx, t, "claim", [(x.device.id, "mine")], **WHO
    ),
    "spend_label_secret": lambda tx, t, x: writes.spend_label_secret(
        tx, t, x.device.id, "claim", x.certificate.serial, NOW
    ),
    "set_sighting": lambda tx, t, x: writes.set_sighting(tx, t, seen(x.device.id, "mine")),
    "expect_hardware": lambda tx, t, x: writes.expect_hardware(
        tx, t, x.device.id, "tpm-ek:ab", **WHO
    ),
    "forget_hardware": lambda tx, t, x: writes.forget_hardware(
        tx, t, x.device.id, "tpm-ek:ab", **WHO
    ),
    "add_attestation_anchor": lambda tx, t, x: writes.add_attestation_anchor(
        tx, t, x.maker.product.id, ROOT, by="eve"
    ),
    "set_transfer": lambda tx, t, x: writes.set_transfer(tx, t, offer(x.device.id, x.owner), **WHO),
    "set_pairing": lambda tx, t, x: writes.set_pairing(
        tx, t, x.device.id, Pairing(x.owner.id, "mine", LATER), **WHO
    ),
    "drop_offers": lambda tx, t, x: writes.drop_offers(tx, t, x.device.id),
    "link_identity": lambda tx, t, x: writes.link_identity(
        tx, t, x.owner.id, "https://login", "jo", **WHO
    ),
    "unlink_identity": lambda tx, t, x: writes.unlink_identity(
        tx, t, x.owner.id, "https://login", "jo", **WHO
    ),
    "begin_device_login": lambda tx, t, x: writes.begin_device_login(tx, t, waiting(x.device.id)),
    "take_device_poll": lambda tx, t, x: writes.take_device_poll(
        tx, t, waiting(x.device.id), NOW, LATER
    ),
    "slow_device_login": lambda tx, t, x: writes.slow_device_login(
        tx, t, waiting(x.device.id), 10, LATER
    ),
    "grant_device_login": lambda tx, t, x: writes.grant_device_login(
        tx, t, waiting(x.device.id), x.owner.id, at=NOW, until=LATER
    ),
    "end_device_login": lambda tx, t, x: writes.end_device_login(tx, t, waiting(x.device.id)),
    "begin_owner_login": lambda tx, t, _: writes.begin_owner_login(
        tx, t, "state", at=LATER, until=LATER, keep=0
    ),
    "spend_owner_login": lambda tx, t, _: writes.spend_owner_login(tx, t, "state", NOW),
    "open_session": lambda tx, t, x: writes.open_session(
        tx, t, x.owner.id, "mine", at=LATER, until=LATER, keep=1
    ),
    "close_session": lambda tx, t, x: writes.close_session(tx, t, x.owner.id, "token", at=NOW),
    "move_device_request": lambda tx, t, x: writes.move_device_request(
        tx, t, asked(t, x.device.id), RequestEvent.APPROVED, **WHO, until=LATER
    ),
    "change_sws_order": lambda tx, t, x: writes.change_sws_order(
        tx, t, bought(x.maker, x.operator), bought(x.maker, x.operator), SWSEvent.REVOKED, **WHO
    ),
    "add_profile": lambda tx, t, _: writes.add_profile(tx, t, SERVICE, **WHO),
}
