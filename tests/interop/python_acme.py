"""A client of a dozen lines over python's `acme` library, run by the system's own Python.

`python_acme.py VERB FOLDER DIRECTORY …` keeps account, key and chain in FOLDER. The library has
no command for key rollover, so `newkey` signs the inner JWS with its JWS class (RFC 8555 7.3.5).
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

import josepy
from acme import challenges, client, crypto_util, jws, messages, standalone
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CURVE = ec.SECP256R1()


def main() -> None:
    verb, folder, directory = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    asked = json.loads(os.environ["ASKED"])  # bindings are no business of the process list
    folder.mkdir(exist_ok=True)
    {"issue": issue, "revoke": revoke, "newkey": new_account_key}[verb](folder, directory, asked)


def new_key(kind: str) -> object:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(CURVE)


def pem(key: object) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def jwk_of(key: object) -> tuple[josepy.JWK, josepy.JWASignature]:
    if isinstance(key, rsa.RSAPrivateKey):
        return josepy.JWKRSA(key=key), josepy.RS256
    return josepy.JWKEC(key=key), josepy.ES256


def opened(folder: Path, directory: str, asked: dict[str, object]) -> client.ClientV2:
    """The account of FOLDER; made at its first use, with a key of the kind that is asked for."""
    file = folder / "account.pem"
    is_new = not file.exists()
    if is_new:
        file.write_bytes(pem(new_key(str(asked["key"]))))
    key, algorithm = jwk_of(serialization.load_pem_private_key(file.read_bytes(), None))
    net = client.ClientNetwork(key, alg=algorithm)
    found = client.ClientV2(client.ClientV2.get_directory(directory, net), net)
    if not is_new:
        uri = (folder / "account.url").read_text()
        known = messages.RegistrationResource(uri=uri, body=messages.Registration())
        net.account = known
        found.query_registration(known)
        return found
    binding = None
    if asked["kid"]:
        binding = messages.ExternalAccountBinding.from_data(
            key.public_key(), asked["kid"], asked["hmac_key"], found.directory
        )
    terms = messages.NewRegistration.from_data(
        email=str(asked["mail"]), terms_of_service_agreed=True, external_account_binding=binding
    )
    (folder / "account.url").write_text(found.new_account(terms).uri)
    return found


def issue(folder: Path, directory: str, asked: dict[str, object]) -> None:
    acme = opened(folder, directory, asked)
    key = pem(new_key(str(asked["key"])))
    csr = crypto_util.make_csr(key, asked["names"])
    order = acme.new_order(csr)
    answers, files = [], set()
    for authorization in order.authorizations:
        (found,) = (c for c in authorization.body.challenges if c.chall.typ == asked["challenge"])
        response, validation = found.response_and_validation(acme.net.key)
        if isinstance(found.chall, challenges.HTTP01):
            files.add(
                standalone.HTTP01RequestHandler.HTTP01Resource(found.chall, response, validation)
            )
        else:
            name = found.chall.validation_domain_name(authorization.body.identifier.value)
            record = json.dumps({"host": f"{name}.", "value": validation}).encode()
            urllib.request.urlopen(str(asked["txt"]), record, 10).close()  # noqa: S310 (loopback)
        answers.append((found, response))
    server = standalone.HTTP01DualNetworkedServers(("127.0.0.1", int(asked["http01"])), files)
    server.serve_forever()
    try:
        for found, response in answers:
            acme.answer_challenge(found, response)
        done = acme.poll_and_finalize(order)
    finally:
        server.shutdown_and_server_close()
    (folder / "key.pem").write_bytes(key)
    (folder / "chain.pem").write_text(done.fullchain_pem)


def revoke(folder: Path, directory: str, asked: dict[str, object]) -> None:
    import OpenSSL.crypto

    leaf = x509.load_pem_x509_certificate((folder / "chain.pem").read_bytes())
    wrapped = josepy.ComparableX509(OpenSSL.crypto.X509.from_cryptography(leaf))
    opened(folder, directory, asked).revoke(wrapped, 4)


def new_account_key(folder: Path, directory: str, asked: dict[str, object]) -> None:
    acme, made = opened(folder, directory, asked), new_key(str(asked["key"]))
    key, algorithm = jwk_of(made)
    url, old = acme.directory["keyChange"], acme.net.key.public_key()
    payload = json.dumps({"account": acme.net.account.uri, "oldKey": old.to_partial_json()})
    inner = jws.JWS.sign(payload.encode(), key=key, alg=algorithm, nonce=None, url=url)
    acme.net.post(url, inner)
    (folder / "account.pem").write_bytes(pem(made))


if __name__ == "__main__":
    main()
