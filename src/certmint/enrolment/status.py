"""Status for relying parties: CRLs, OCSP answers, issuers' certificates.

CRLs are signed ahead, kept in the registry and served from there; OCSP answers are signed on
demand from one indexed row, so that a revocation shows at once.
"""

import datetime as dt
from functools import partial

from certmint.enrolment.signing import SigningKeys
from certmint.issuance.crl import build_crl
from certmint.issuance.ocsp import CertStatus, respond
from certmint.model.entities import Authority
from certmint.model.errors import Misconfigured, NotFound, Unavailable
from certmint.model.serial import Serial
from certmint.model.states import AuthorityState
from certmint.registry import fibres, reads, writes
from certmint.registry.engine import Database

CRL_LIFE = dt.timedelta(days=9)  # standards.md 1.14: sign every 6 to 12 h, live 9 days
CRL_EVERY = dt.timedelta(hours=12)
OCSP_LIFE = dt.timedelta(hours=12)


def publish_crls(
    db: Database, keys: SigningKeys, authority: Authority, now: dt.datetime
) -> list[int]:
    """Sign and store a new CRL for every shard of an authority; the numbers they got.

    The number is taken first and the CRL is signed outside of any transaction; a crash between
    leaves a gap in the numbers, which is allowed (RFC 5280 5.2.3: increasing, not gapless).
    """
    return [
        _publish_shard(db, keys, authority, shard, now) for shard in range(authority.crl_shards)
    ]


def _publish_shard(
    db: Database, keys: SigningKeys, authority: Authority, shard: int, now: dt.datetime
) -> int:
    number = db.write(lambda tx: writes.next_crl_number(tx, authority.id))
    with db.read() as tx:
        revoked = reads.revoked_entries(tx, authority.id, shard)
    # An entry stays on one CRL beyond the certificate's end (RFC 5280 3.3).
    entries = [
        (entry.serial, entry.revoked_at, entry.reason)
        for entry in revoked
        if entry.not_after > now - CRL_LIFE
    ]
    until = now + CRL_LIFE
    # A long list takes a while, whatever signs it: not on the event loop.
    build = partial(build_crl, keys.of(authority), entries, shard, number, now, until)
    crl = fibres.aside(None, build)
    db.write(lambda tx: writes.add_crl(tx, authority.id, shard, number, now, until, crl))
    return number


def refresh_crls(db: Database, keys: SigningKeys, now: dt.datetime) -> int:
    """Publish anew wherever the newest CRL is older than half a day; how many authorities.

    An authority whose key fails does not keep the others waiting; the first failure is raised
    at the end.
    """
    done, failed = 0, None
    with db.read() as tx:
        authorities = reads.all_authorities(tx)
    for authority in authorities:
        if authority.state is AuthorityState.PENDING:
            continue
        with db.read() as tx:
            shards = [reads.latest_crl(tx, authority.id, s) for s in range(authority.crl_shards)]
        if any(crl is None or now - crl.this_update >= CRL_EVERY for crl in shards):
            try:
                publish_crls(db, keys, authority, now)
                done += 1
            except (Unavailable, Misconfigured) as error:
                failed = failed or error
    if failed is not None:
        raise failed
    return done


def crl(db: Database, authority_id: str, shard: int) -> reads.CRLRow:
    """The newest CRL of a shard. Raises NotFound `crl-unknown`."""
    with db.read() as tx:
        found = reads.latest_crl(tx, authority_id, shard)
    if found is None:
        raise NotFound("crl-unknown", "there is no such CRL")
    return found


def issuer(db: Database, authority_id: str) -> bytes:
    """An authority's own certificate in DER (caIssuers). Raises NotFound `authority-unknown`."""
    return _authority(db, authority_id).der


def ocsp(
    db: Database, keys: SigningKeys, authority_id: str, request: bytes, now: dt.datetime
) -> bytes:
    """The OCSP response in DER; always one, if only `malformedRequest` (RFC 6960 2.3)."""
    authority = _authority(db, authority_id)

    def status(serial: Serial) -> CertStatus:
        with db.read() as tx:
            found = reads.certificate_status(tx, authority_id, serial)
        return CertStatus(known=found.known, revocation=found.revocation)

    return respond(request, keys.of(authority), status, now, OCSP_LIFE)


def _authority(db: Database, authority_id: str) -> Authority:
    with db.read() as tx:
        found = reads.authority_for_status(tx, authority_id)
    if found is None or found.state is AuthorityState.PENDING:
        raise NotFound("authority-unknown", "there is no such authority")
    return found
