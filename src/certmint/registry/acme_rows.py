"""Rows and ACME's values: for each kind, one function there and one back, as in `rows`.

A value that spans tables (an order's authorizations, an authorization's challenges) is made of
one row and of what hangs below it, which the caller brings. Nothing here speaks to a database.
"""

import datetime as dt
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from certmint.model.acme import (
    Account,
    AccountState,
    Authorization,
    AuthorizationState,
    AutoRenewal,
    AutoRenewalState,
    Binding,
    Challenge,
    ChallengeState,
    ChallengeType,
    Directory,
    Identifier,
    IdentifierType,
    Order,
    OrderState,
    RenewalTerms,
)
from certmint.registry import documents
from certmint.registry.rows import REMEMBERED, Row, Values

_SECOND = dt.timedelta(seconds=1)


def directory_row(directory: Directory) -> Values:
    return {
        "id": directory.id,
        "tenant_id": directory.tenant_id,
        "name": directory.name,
        "authority_id": directory.authority_id,
        "profiles": documents.list_text(directory.profiles),
        "requires_binding": int(directory.requires_binding),
        "created_at": directory.created_at,
        "offer": offer_text(directory),
    }


@lru_cache(maxsize=REMEMBERED)
def directory_of(row: Row) -> Directory:
    return Directory(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        authority_id=row.authority_id,
        profiles=documents.list_of(row.profiles),
        requires_binding=bool(row.requires_binding),
        created_at=row.created_at,
        **(_offer_of(row.offer) if row.offer is not None else {}),
    )


def offer_text(directory: Directory) -> str:
    """What a directory offers and asks for beyond RFC 8555's least, as one document."""
    renewal = directory.auto_renewal
    return documents.canonical(
        {
            "challenges": directory.challenges,
            "terms": directory.terms,
            "website": directory.website,
            "caa_identities": directory.caa_identities,
            "allows_subdomains": directory.allows_subdomains,
            "auto_renewal": renewal
            and [
                _seconds(renewal.min_lifetime),
                _seconds(renewal.max_duration),
                renewal.allows_get,
            ],
        }
    )


def _offer_of(text: str) -> dict[str, Any]:
    held = json.loads(text)
    renewal = held["auto_renewal"]
    if renewal is not None:
        least, longest, allows_get = renewal
        renewal = RenewalTerms(least * _SECOND, longest * _SECOND, allows_get)
    return {
        "challenges": tuple(map(ChallengeType, held["challenges"])),
        "terms": held["terms"],
        "website": held["website"],
        "caa_identities": tuple(held["caa_identities"]),
        "allows_subdomains": held["allows_subdomains"],
        "auto_renewal": renewal,
    }


def _seconds(length: dt.timedelta) -> int:
    return length // _SECOND


def account_row(account: Account) -> Values:
    return {
        "id": account.id,
        "tenant_id": account.tenant_id,
        "directory_id": account.directory,
        "thumbprint": account.thumbprint,
        "jwk": account.jwk,
        "contacts": documents.list_text(account.contacts),
        "state": account.state.value,
        "binding_id": account.binding_id,
        "created_at": account.created_at,
        "agreed_terms": account.agreed_terms,
        "external_binding": account.external_binding,
    }


@lru_cache(maxsize=REMEMBERED)
def account_of(row: Row) -> Account:
    return Account(
        id=row.id,
        tenant_id=row.tenant_id,
        directory=row.directory_id,
        thumbprint=row.thumbprint,
        jwk=row.jwk,
        contacts=documents.list_of(row.contacts),
        state=AccountState(row.state),
        binding_id=row.binding_id,
        created_at=row.created_at,
        agreed_terms=row.agreed_terms or "",
        external_binding=row.external_binding or "",
    )


def binding_row(binding: Binding) -> Values:
    return {
        "id": binding.id,
        "tenant_id": binding.tenant_id,
        "directory_id": binding.directory,
        "product_id": binding.product_id,
        "device_id": binding.device_id,
        "is_reusable": int(binding.is_reusable),
        "sealed_key": binding.sealed_key,
        "expires_at": binding.expires_at,
        "created_at": binding.created_at,
        "account_id": binding.account_id,
        "revoked_at": binding.revoked_at,
    }


def binding_of(row: Row) -> Binding:
    return Binding(
        id=row.id,
        tenant_id=row.tenant_id,
        directory=row.directory_id,
        product_id=row.product_id,
        device_id=row.device_id,
        is_reusable=bool(row.is_reusable),
        sealed_key=row.sealed_key,
        expires_at=row.expires_at,
        created_at=row.created_at,
        account_id=row.account_id,
        revoked_at=row.revoked_at,
    )


def order_row(order: Order) -> Values:
    return {
        "id": order.id,
        "tenant_id": order.tenant_id,
        "account_id": order.account_id,
        "directory_id": order.directory,
        "profile": order.profile,
        "state": order.state.value,
        "identifiers": documents.identifiers_text(order.identifiers),
        "expires_at": order.expires_at,
        "created_at": order.created_at,
        "moved_at": order.created_at,
        "replaces": order.replaces,
        "error": order.error,
        "authority_id": order.authority_id,
        "serial": order.serial,
    }


def order_of(row: Row, authorization_ids: Iterable[str]) -> Order:
    return Order(
        id=row.id,
        tenant_id=row.tenant_id,
        account_id=row.account_id,
        directory=row.directory_id,
        profile=row.profile,
        state=OrderState(row.state),
        identifiers=documents.identifiers_of(row.identifiers),
        authorization_ids=tuple(authorization_ids),
        expires_at=row.expires_at,
        created_at=row.created_at,
        replaces=row.replaces,
        error=row.error,
        authority_id=row.authority_id,
        serial=row.serial,
    )


def order_authorization_rows(order: Order) -> list[Values]:
    return [
        {
            "tenant_id": order.tenant_id,
            "account_id": order.account_id,
            "order_id": order.id,
            "position": position,
            "authorization_id": authorization_id,
        }
        for position, authorization_id in enumerate(order.authorization_ids)
    ]


def authorization_row(authorization: Authorization) -> Values:
    return {
        "id": authorization.id,
        "tenant_id": authorization.tenant_id,
        "account_id": authorization.account_id,
        "identifier_type": authorization.identifier.type.value,
        "identifier": authorization.identifier.value,
        "is_wildcard": int(authorization.is_wildcard),
        "state": authorization.state.value,
        "expires_at": authorization.expires_at,
        "created_at": authorization.created_at,
        "evidence": authorization.evidence,
        "covers_subdomains": int(authorization.covers_subdomains),
    }


def authorization_of(row: Row, challenges: Iterable[Challenge]) -> Authorization:
    return Authorization(
        id=row.id,
        tenant_id=row.tenant_id,
        account_id=row.account_id,
        identifier=Identifier(IdentifierType(row.identifier_type), row.identifier),
        is_wildcard=bool(row.is_wildcard),
        state=AuthorizationState(row.state),
        expires_at=row.expires_at,
        created_at=row.created_at,
        challenges=tuple(challenges),
        evidence=row.evidence,
        covers_subdomains=bool(row.covers_subdomains),
    )


def challenge_rows(authorization: Authorization) -> list[Values]:
    return [
        {
            "id": challenge.id,
            "tenant_id": authorization.tenant_id,
            "account_id": authorization.account_id,
            "authorization_id": authorization.id,
            "position": position,
            "type": challenge.type.value,
            "token": challenge.token,
            "state": challenge.state.value,
            "moved_at": authorization.created_at,
            "validated_at": challenge.validated_at,
            "error": challenge.error,
        }
        for position, challenge in enumerate(authorization.challenges)
    ]


def challenge_of(row: Row) -> Challenge:
    return Challenge(
        id=row.id,
        authorization_id=row.authorization_id,
        type=ChallengeType(row.type),
        token=row.token,
        state=ChallengeState(row.state),
        validated_at=row.validated_at,
        error=row.error,
    )


def auto_renewal_row(renewal: AutoRenewal) -> Values:
    return vars(renewal) | {
        "state": renewal.state.value,
        "lifetime": _seconds(renewal.lifetime),
        "adjust": _seconds(renewal.adjust),
        "allows_get": int(renewal.allows_get),
    }


def auto_renewal_of(row: Row) -> AutoRenewal:
    return AutoRenewal(
        order_id=row.order_id,
        tenant_id=row.tenant_id,
        account_id=row.account_id,
        state=AutoRenewalState(row.state),
        ends_at=row.ends_at,
        lifetime=row.lifetime * _SECOND,
        adjust=row.adjust * _SECOND,
        allows_get=bool(row.allows_get),
        csr=row.csr,
        began_at=row.began_at,
        next_at=row.next_at,
        authority_id=row.authority_id,
        serial=row.serial,
    )
