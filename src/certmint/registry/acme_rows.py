"""Rows and ACME's values: for each kind, one function there and one back, as in `rows`.

A value that spans tables (an order's authorizations, an authorization's challenges) is made of
one row and of what hangs below it, which the caller brings. Nothing here speaks to a database.
"""

from collections.abc import Iterable

from certmint.model.acme import (
    Account,
    AccountState,
    Authorization,
    AuthorizationState,
    Binding,
    Challenge,
    ChallengeState,
    ChallengeType,
    Directory,
    Identifier,
    IdentifierType,
    Order,
    OrderState,
)
from certmint.registry import documents
from certmint.registry.rows import Row, Values


def directory_row(directory: Directory) -> Values:
    return vars(directory) | {
        "profiles": documents.list_text(directory.profiles),
        "requires_binding": int(directory.requires_binding),
    }


def directory_of(row: Row) -> Directory:
    return Directory(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        authority_id=row.authority_id,
        profiles=documents.list_of(row.profiles),
        requires_binding=bool(row.requires_binding),
        created_at=row.created_at,
    )


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
    }


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
