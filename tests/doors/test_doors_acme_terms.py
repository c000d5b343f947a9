"""Terms of service (RFC 8555 7.3, 7.3.3): agreed to before ordering, and when they change."""

from acme_client import Client, csr, links
from acme_directories import opened
from asgi import Answer
from backstage import BY, ACMEHouse, refused

from certmint.enrolment.acme.directories import change_terms

OLD, NEW = "https://acme.example/terms/1", "https://acme.example/terms/2"


def must_agree(answer: Answer, terms: str) -> None:
    """userActionRequired, with the place where a person reads what to agree to."""
    problem = refused(answer, "userActionRequired", 403)
    assert problem["instance"] == terms
    assert links(answer, "terms-of-service") == [terms]


def test_an_account_opens_with_an_agreement(acme: ACMEHouse) -> None:
    """Without one, or with one that is not `true`, there is no account."""
    where = opened(acme, terms=OLD)
    client = Client(acme.app, f"/acme/acme/{where.name}")
    for answer in (False, None, "true", 1):
        must_agree(client.register(termsOfServiceAgreed=answer), OLD)
    refused(client.register(onlyReturnExisting=True), "accountDoesNotExist", 400)
    opened_one = client.register()
    assert (opened_one.status, opened_one.json["termsOfServiceAgreed"]) == (201, True)


def test_changed_terms_are_agreed_to_again(acme: ACMEHouse) -> None:
    """Until then nothing new is ordered; what is there can be read, used and revoked."""
    here = acme.house.here
    where = opened(acme, terms=OLD)
    client = Client(acme.app, f"/acme/acme/{where.name}")
    client.register()
    ready = acme.ready(client, "terms.example.com")
    change_terms(here.db, where, NEW, by=BY, now=here.clock())
    must_agree(client.order("terms.example.com"), NEW)
    identifier = {"type": "dns", "value": "new.example.com"}
    must_agree(client.post(client.url("new-authz"), {"identifier": identifier}), NEW)
    assert client.post(client.kid).json["termsOfServiceAgreed"] is False
    assert client.post(ready["finalize"], {"csr": csr("terms.example.com")}).status == 200
    again = Client(acme.app, client.directory, key=client.key)
    assert again.register(termsOfServiceAgreed=False).status == 200
    again.kid = ""
    assert again.register(onlyReturnExisting=True).json["termsOfServiceAgreed"] is False
    must_agree(client.order("terms.example.com"), NEW)
    again.kid = ""
    assert again.register().json["termsOfServiceAgreed"] is True
    assert client.order("terms.example.com").status == 201


def test_a_directory_without_terms_asks_for_nothing(acme: ACMEHouse) -> None:
    """And says nothing of an agreement."""
    client = Client(acme.app, "/acme/acme/open")
    answer = client.register(termsOfServiceAgreed=False)
    assert answer.status == 201
    assert "termsOfServiceAgreed" not in answer.json
