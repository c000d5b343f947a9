"""Somebody else's look at the certificate: pkilint, in process (BR 4.3.1.2, 6.6.1).

Private certificates go through its RFC 5280 rules, public service certificates through its rules
for the TLS Baseline Requirements. Whatever it calls WARNING or worse is a finding, unless the
certificate is private and ACCEPTED says why it is not. Loading it takes about half a second,
once a process, and a certificate some ten milliseconds: `authority` asks it about the first
certificate of each layout.
"""

from functools import lru_cache
from typing import Any

from certmint.issuance.lint import Finding

ACCEPTED = {
    "pkix.invalid_domain_name_syntax": (
        "pkilint takes every wildcard and every single label (localhost) for a syntax error. "
        "model.names proves the syntax, and our own lint compares each name with the approval."
    ),
    "pkix.invalid_uri_syntax": (
        "the same for a status URL whose host is a single label, in a maker's lab. Our own lint "
        "compares each URL with the authority's."
    ),
    "pkix.certificate_name_constraints_extension_not_critical": (
        "RFC 5280 4.2.1.10 wants it critical, BR 7.1.2.5 allows either, and Go, pyca and Mbed TLS "
        "reject a critical one with a directoryName (DESIGN.md, section 5)."
    ),
}
"""The findings that do not count for private certificates, each with the reason."""


def lint_with_pkilint(der: bytes, *, is_public: bool = False) -> list[Finding]:
    """What pkilint finds in a whole certificate, signed by whatever key."""
    from pkilint.loader import RFC5280CertificateDocumentLoader
    from pkilint.validation import ValidationFindingSeverity as Severity

    certificate = RFC5280CertificateDocumentLoader().load_der_document(der, "rehearsal")
    results = (_baseline_rules() if is_public else _pkix_rules()).validate(certificate.root)
    if is_public:
        results = _without_superseded(results)
    found = []
    for result in results:
        for description in result.finding_descriptions:
            code = description.finding.code
            accepted = code in ACCEPTED and not is_public
            if description.finding.severity <= Severity.WARNING and not accepted:
                found.append(Finding(code, f"{description.message or code} at {result.node.path}"))
    return found


@lru_cache(maxsize=1)
def _pkix_rules() -> Any:
    from pkilint.pkix import certificate, extension, name

    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(
            name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS
        ),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@lru_cache(maxsize=1)
def _baseline_rules() -> Any:
    from pkilint.cabf import serverauth
    from pkilint.cabf.serverauth.serverauth_constants import CertificateType
    from pkilint.pkix import certificate

    return certificate.create_pkix_certificate_validator_container(
        serverauth.create_decoding_validators(),
        serverauth.create_validators(CertificateType.DV_FINAL_CERTIFICATE),
    )


def _without_superseded(results: Any) -> Any:
    # The Baseline Requirements replace some of RFC 5280's wishes (no SKI in a leaf, for one).
    from pkilint import finding_filter
    from pkilint.cabf import serverauth
    from pkilint.cabf.serverauth.serverauth_constants import CertificateType

    filters = serverauth.create_serverauth_finding_filters(CertificateType.DV_FINAL_CERTIFICATE)
    kept, _ = finding_filter.filter_results(filters, results)
    return kept
