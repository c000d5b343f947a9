"""Request tokens: proof of control by the hash of a CSR, in the DNS or on a web server.

BR 1.6.1, 3.2.2.4.7 and .18. The token binds the proof to the CSR's key. It names no time, so it
counts for one validation: the same CSR needs a fresh unique value for the next. The names and
values are those that SWS clients know as CNAME_CSR_HASH and HTTP_CSR_HASH.
"""

import datetime as dt
import hashlib
import re

from certmint.enrolment.domains import REQUEST_TOKENS, VALUE_LIFE, domain_of, refuse_used_token
from certmint.enrolment.manufacturers import new_id
from certmint.model.csr import CSR, load_csr
from certmint.model.entities import DomainValidation, Manufacturer, ValidationMethod
from certmint.model.errors import BadInput, Refused
from certmint.model.serial import RandomBytes
from certmint.registry import writes
from certmint.registry.engine import Database
from certmint.validation.pkivalidation import FOLDER

_UNIQUE = re.compile(r"[a-z0-9]{1,20}\Z")


def begin_csr_hash(
    db: Database,
    tenant: Manufacturer,
    csr: CSR,
    domain: str,
    kind: ValidationMethod,
    *,
    ca_domain: str,
    unique_value: str = "",
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> DomainValidation:
    """Open one attempt; `record_name` says where `random_value` is to stand.

    `ca_domain` is the domain by which this CA signs its tokens. Raises BadInput `name-syntax`,
    `validation-method` or `unique-value`, Refused `csr-hash-strength`, Conflict `token-used`.
    """
    if kind not in REQUEST_TOKENS:
        raise BadInput("validation-method", f"{kind} is not proved by the hash of a CSR")
    name = domain_of(domain)
    unique = unique_value.lower()
    if unique and not _UNIQUE.match(unique):
        raise BadInput(
            "unique-value", f"the unique value {unique_value!r} is not 1 to 20 letters and digits"
        )
    _check_strength(csr)
    place, content = token(csr, name, kind, ca_domain, unique)
    made = DomainValidation(
        id=new_id("val", now, random_bytes),
        tenant_id=tenant.id,
        domain=name,
        method=kind,
        random_value=content,
        record_name=place,
        created_at=now,
        expires_at=now + VALUE_LIFE,
    )

    def work(tx: writes.Transaction) -> None:
        refuse_used_token(tx, made)
        writes.add_domain_validation(tx, made, by=by, at=now)

    db.write(work)
    return made


def token(
    csr: CSR, domain: str, kind: ValidationMethod, ca_domain: str, unique: str = ""
) -> tuple[str, str]:
    """Where the token of a CSR is to stand, and what it is.

    A CNAME's owner and target, without final dots; or a URL, and the lines of the file.
    """
    # MD5 only names a place that is hard to meet by accident; the proof is the SHA-256.
    md5 = hashlib.md5(csr.der, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(csr.der).hexdigest()
    if kind is ValidationMethod.HTTP_CSR_HASH:
        lines = [sha256, ca_domain, *([unique] if unique else [])]
        return f"http://{domain}{FOLDER}{md5.upper()}.txt", "\n".join(lines)
    labels = [sha256[:32], sha256[32:], *([unique] if unique else []), ca_domain]
    return f"_{md5}.{domain}", ".".join(labels)


def _check_strength(csr: CSR) -> None:
    """The hash of a token must be as strong as the one that signs the CSR (BR 1.6.1)."""
    digest = load_csr(csr.der).signature_hash_algorithm
    if digest is not None and digest.digest_size > hashlib.sha256().digest_size:
        raise Refused(
            "csr-hash-strength",
            f"the CSR is signed with {digest.name}, which is stronger than the token's SHA-256: "
            "sign it with SHA-256, or use another method",
        )
