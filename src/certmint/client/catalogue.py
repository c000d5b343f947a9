"""Operations on domains, authorities, profiles, products."""

from collections.abc import Sequence

from certmint.client.answers import (
    Approval,
    Authority,
    Contacts,
    Domain,
    Product,
    Profile,
    Validation,
)
from certmint.client.calls import Calls, path, said
from certmint.client.pages import Listing


class Catalogue(Calls):
    def list_domains(self) -> Listing[Domain]:
        """Proved domains, and until when each proof counts."""
        return self._list(Domain, "/domains")

    def list_contacts(self, domain: str) -> Contacts:
        """Who may be asked about a domain by e-mail."""
        return self._show(Contacts, "/domains/contacts", {"domain": domain})

    def list_validations(self, *, domain: str | None = None) -> Listing[Validation]:
        return self._list(Validation, "/domains/validations", domain=domain)

    def show_validation(self, validation_id: str) -> Validation:
        return self._show(Validation, path("domains", "validations", validation_id))

    def begin_validation(
        self,
        domain: str,
        method: str = "dns-txt",
        *,
        recipients: Sequence[str] = (),
        csr: str = "",
        unique_value: str = "",
    ) -> Validation:
        """Begin to prove a domain; the answer says what to publish before `verify_validation`."""
        body = {
            "domain": domain,
            "method": method,
            "recipients": list(recipients),
            "csr": csr,
            "unique_value": unique_value,
        }
        return self._make(Validation, "/domains/validations", body)

    def verify_validation(self, validation_id: str) -> Validation:
        """Have the server look for what was to be published."""
        return self._make(Validation, path("domains", "validations", validation_id, "verification"))

    def resend_validation(self, validation_id: str) -> int:
        """Have the e-mails of an attempt sent again; how many there were."""
        answer = self._post(path("domains", "validations", validation_id, "messages"))
        return int(answer.json["messages"])

    def list_authorities(self) -> Listing[Authority]:
        return self._list(Authority, "/authorities")

    def show_authority(self, name: str) -> Authority:
        return self._show(Authority, path("authorities", name))

    def create_authority(
        self,
        name: str,
        kind: str,
        *,
        parent: str | None = None,
        domains: Sequence[str] = (),
        constraints: str | None = None,
        critical: bool = False,
        subject: str = "",
        key_kind: str | None = None,
        crl_shards: int = 1,
    ) -> Approval:
        """Ask for a CA: `kind` is root, issuing, subordinate, identity-root or identity-issuing."""
        body = said(
            name=name,
            kind=kind,
            parent=parent,
            domains=list(domains),
            constraints=constraints,
            critical=critical,
            subject=subject,
            key_kind=key_kind,
            crl_shards=crl_shards,
        )
        return self._make(Approval, "/authorities", body)

    def list_profiles(self) -> Listing[Profile]:
        """The newest version of each."""
        return self._list(Profile, "/profiles")

    def show_profile(self, name: str, version: int | None = None) -> Profile:
        return self._show(Profile, path("profiles", name), {"version": version})

    def change_profile(
        self,
        profile: Profile,
        *,
        lifetime: int | None = None,
        grace: int | None = None,
        accepts: Sequence[str] | None = None,
        plain_delivery: bool | None = None,
    ) -> Approval:
        """Ask for the next version; `profile` as `show_profile` read it, times in seconds."""
        body = said(
            lifetime=lifetime,
            grace=grace,
            accepts=None if accepts is None else list(accepts),
            plain_delivery=plain_delivery,
        )
        return self._change(Approval, path("profiles", profile.name), profile.etag, body)

    def list_products(self) -> Listing[Product]:
        return self._list(Product, "/products")

    def show_product(self, name: str) -> Product:
        return self._show(Product, path("products", name))

    def create_product(
        self,
        name: str,
        *,
        identity_authority: str,
        service_authority: str,
        identity_profile: str = "identity",
        service_profile: str = "service",
        name_patterns: Sequence[str] = (),
        shared_names: Sequence[str] = (),
        renew_at: float | None = None,
        accepts: Sequence[str] = (),
        grace: int | None = None,
        approval: Sequence[str] = (),
        channel_linking: bool = False,
    ) -> Product:
        """Add a device model; `grace` in seconds."""
        body = said(
            name=name,
            identity_profile=identity_profile,
            identity_authority=identity_authority,
            service_profile=service_profile,
            service_authority=service_authority,
            name_patterns=list(name_patterns),
            shared_names=list(shared_names),
            renew_at=renew_at,
            accepts=list(accepts),
            grace=grace,
            approval=list(approval),
            channel_linking=channel_linking,
        )
        return self._make(Product, "/products", body)

    def change_product(
        self,
        product: Product,
        *,
        accepts: Sequence[str] = (),
        grace: int | None = None,
        approval: Sequence[str] = (),
        channel_linking: bool | None = None,
    ) -> Product:
        """Change what a product asks of its devices; `product` as `show_product` read it."""
        body = said(
            accepts=list(accepts),
            grace=grace,
            approval=list(approval),
            channel_linking=channel_linking,
        )
        return self._change(Product, path("products", product.name), product.etag, body)
