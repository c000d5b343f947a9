"""Campaigns under way: gathering members, seeing who was replaced, revoking, ending.

Everything is done in pieces, each one short transaction, by whichever node holds the job's lease;
after a crash the next round goes on behind the last piece that was committed. OCSP and every door
see a revocation with its piece; CRLs follow when a round or the campaign ends, and a crash before
that is made good when the campaign ends, since nothing ends without them.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence

from certmint.enrolment.revocation import publish_everywhere
from certmint.enrolment.signing import SigningKeys
from certmint.model.campaign import (
    AfterReplacing,
    AtDeadline,
    Campaign,
    CampaignEvent,
    CampaignKind,
    CampaignState,
    Member,
    MemberState,
)
from certmint.model.entities import RevocationReason
from certmint.model.errors import WrongState
from certmint.model.serial import first_serial
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

BY = "campaign"
PIECE = 500  # members that one transaction moves
STRETCH = 5_000  # certificates that one transaction looks through
_LISTED = 200  # devices of one piece of a list
# A serial is given out before its certificate is stored; who looks only ahead looks back this far.
_SIGNING_TIME = dt.timedelta(minutes=15)


def work_campaigns(
    db: Database,
    keys: SigningKeys,
    clock: Callable[[], dt.datetime],
    goes_on: Callable[[], bool],
    piece: int = PIECE,
) -> int:
    """One round over every campaign under way, while `goes_on`; how many pieces were done.

    `piece` is how many members one transaction moves.
    """
    with db.read() as tx:
        active = reads.active_campaigns(tx)
    return sum(_round(db, keys, found, clock, goes_on, piece) for found in active)


def _round(
    db: Database,
    keys: SigningKeys,
    found: Campaign,
    clock: Callable[[], dt.datetime],
    goes_on: Callable[[], bool],
    piece: int,
) -> int:
    pieces, revoked = 0, found.revoked + found.retired
    current: Campaign | None = found
    try:
        while goes_on() and current is not None and _piece(db, keys, current, clock(), piece):
            pieces += 1
            with db.read() as tx:
                current = reads.campaign(tx, found.tenant_id, found.id)
    except WrongState:
        pass  # paused, cancelled, or taken over by another node: its piece was rolled back
    with db.read() as tx:
        now_known = reads.campaign(tx, found.tenant_id, found.id)
    has_revoked = now_known is not None and now_known.revoked + now_known.retired > revoked
    if has_revoked and now_known is not None and now_known.state is not CampaignState.DONE:
        publish_everywhere(db, keys, found.tenant_id, clock())
    return pieces


def _piece(db: Database, keys: SigningKeys, found: Campaign, now: dt.datetime, piece: int) -> bool:
    """Do the next piece; False if there is nothing to do now."""
    if found.state is CampaignState.GATHERING:
        return _gather(db, found, now)
    if found.state is not CampaignState.RUNNING:
        return False
    if found.plan.kind is CampaignKind.REVOKE and now < found.plan.starts_at:
        return False  # renewal windows are past already: devices may come before it hits them
    if found.plan.kind is CampaignKind.REVOKE:
        return _revoke_pending(db, found, now, piece) or _finish(db, keys, found, now)
    return (
        _see_successors(db, found, now)
        or _retire_replaced(db, found, now, piece)
        or _settle_late(db, found, now, piece)
        or _finish(db, keys, found, now)
    )


def _gather(db: Database, found: Campaign, now: dt.datetime) -> bool:
    listed = found.selection.serial_numbers
    if listed:
        start = int(found.gathered_to or 0)
        piece = listed[start : start + _LISTED]
        upto, place = "", str(start + len(piece))
    else:
        piece = ()
        begun = found.begun_at or now
        with db.read() as tx:
            upto = reads.serial_after(tx, found.tenant_id, found.gathered_to, STRETCH) or ""
        if found.gathered_to >= first_serial(begun):
            upto = ""  # what was begun later is never a member
        place = upto
    if not place or (listed and not piece):
        _move(db, found, CampaignEvent.GATHERED, now)
        return True
    db.write(lambda tx: writes.gather_members(tx, found, upto, piece, place))
    return True


def _see_successors(db: Database, found: Campaign, now: dt.datetime) -> bool:
    """Look through the certificates behind `seen_to`; False when all were seen.

    What is older than a signature takes is passed for good; what is younger is looked at again.
    """
    horizon, cursor = first_serial(now - _SIGNING_TIME), found.seen_to
    while True:
        with db.read() as tx:
            upto = reads.serial_after(tx, found.tenant_id, cursor, STRETCH)
            if upto is None:
                return False
            seen = reads.successors(tx, found, cursor, upto)
        if seen or upto <= horizon:
            break
        cursor = upto
    replaced = [dataclasses.replace(member, successor=serial) for member, serial in seen]

    def work(tx: Transaction) -> None:
        writes.settle_members(
            tx, found, MemberState.PENDING, {MemberState.REPLACED: replaced}, at=now
        )
        if upto <= horizon:
            writes.set_campaign_seen(tx, found, upto)

    db.write(work)
    return True


def _retire_replaced(db: Database, found: Campaign, now: dt.datetime, piece: int) -> bool:
    """Revoke what was replaced, when its grace is over."""
    if found.plan.after_replacing is not AfterReplacing.REVOKE:
        return False
    with db.read() as tx:
        due = reads.campaign_members(
            tx, found.tenant_id, found.id, state=MemberState.REPLACED,
            settled_before=now - found.plan.grace, limit=piece,
        )  # fmt: skip
    return _revoke(db, found, due, MemberState.REPLACED, MemberState.RETIRED, now)


def _settle_late(db: Database, found: Campaign, now: dt.datetime, piece: int) -> bool:
    """After the deadline: revoke what is left, or say that it was missed."""
    if now < found.plan.deadline:
        return False
    if found.plan.at_deadline is AtDeadline.REVOKE:
        return _revoke_pending(db, found, now, piece)
    left = _pending(db, found, piece)

    def work(tx: Transaction) -> None:
        live = reads.live_members(tx, found, left, now)
        outcomes = {
            MemberState.MISSED: [each for each in left if each.serial in live],
            MemberState.GONE: [each for each in left if each.serial not in live],
        }
        writes.settle_members(tx, found, MemberState.PENDING, outcomes, at=now)

    if left:
        db.write(work)
    return bool(left)


def _revoke_pending(db: Database, found: Campaign, now: dt.datetime, piece: int) -> bool:
    left = _pending(db, found, piece)
    return _revoke(db, found, left, MemberState.PENDING, MemberState.REVOKED, now)


def _pending(db: Database, found: Campaign, piece: int) -> list[Member]:
    with db.read() as tx:
        return reads.campaign_members(
            tx, found.tenant_id, found.id, state=MemberState.PENDING, limit=piece
        )


def _revoke(
    db: Database,
    found: Campaign,
    members: Sequence[Member],
    before: MemberState,
    target: MemberState,
    now: dt.datetime,
) -> bool:
    """Revoke one piece; certificates that ended otherwise meanwhile are GONE."""
    if not members:
        return False

    def work(tx: Transaction) -> None:
        if found.plan.reason is RevocationReason.KEY_COMPROMISE:
            done = [each for each in members if _compromised(tx, found, each, now)]
        else:
            done = writes.revoke_members(tx, found, members, found.plan.reason, by=by, at=now)
        serials = {each.serial for each in done}
        gone = [each for each in members if each.serial not in serials]
        writes.settle_members(tx, found, before, {target: done, MemberState.GONE: gone}, at=now)

    by = f"{BY}:{found.id}"
    db.write(work)
    return True


def _compromised(tx: Transaction, found: Campaign, member: Member, now: dt.datetime) -> bool:
    """Block the member's key, and revoke every certificate with it (BR 4.9.1.1 (3)).

    False if the member itself had ended; its key is blocked all the same.
    """
    reason, by = RevocationReason.KEY_COMPROMISE, f"{BY}:{found.id}"
    held = reads.certificate(tx, found.tenant_id, member.serial, member.authority_id)
    if held is None:
        return False
    writes.block_key(tx, held.key_fingerprint, now, by=by)
    same = reads.certificates_with_key(tx, found.tenant_id, held.key_fingerprint)
    for each in same:
        if each.revocation is None or each.revocation.reason is not reason:
            writes.revoke_certificate(
                tx, each.tenant_id, each.authority_id, each.serial, reason, by=by, at=now
            )
    # Another member of this piece may have had the same key.
    is_ours = held.revocation is None or held.revocation.revoked_at == now
    return is_ours and not held.is_expired(now)


def _finish(db: Database, keys: SigningKeys, found: Campaign, now: dt.datetime) -> bool:
    """End a campaign that has nothing left; its CRLs go out first."""
    waits = (
        found.replaced
        if found.plan.kind is CampaignKind.REPLACE
        and found.plan.after_replacing is AfterReplacing.REVOKE
        else 0
    )
    if found.pending or waits:
        return False
    if found.revoked or found.retired:
        publish_everywhere(db, keys, found.tenant_id, now)
    counts = {state.value: getattr(found, state.value) for state in MemberState}
    _move(db, found, CampaignEvent.FINISHED, now, **counts)
    return True


def _move(
    db: Database, found: Campaign, event: CampaignEvent, now: dt.datetime, **told: object
) -> None:
    db.write(
        lambda tx: writes.move_campaign(
            tx, found.tenant_id, found.id, found.state, event, by=BY, at=now, told=told
        )
    )
