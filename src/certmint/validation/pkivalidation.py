"""A file that the CA agreed on, below /.well-known/pki-validation/ (BR 3.2.2.4.18)."""

import hmac

from certmint.model.names import Name
from certmint.validation.dns import Resolver
from certmint.validation.http01 import fetched
from certmint.validation.reach import Dial, Failed, Reach, dial

FOLDER = "/.well-known/pki-validation/"


def check(
    name: Name,
    file: str,
    content: str,
    resolver: Resolver,
    reach: Reach,
    dial: Dial = dial,
) -> dict[str, object]:
    """Fetch the file from `name`; what was seen, as evidence. Lines may end as they like.

    Raises Failed; nothing that the server sent is in its text.
    """
    body, hops = fetched(name, FOLDER + file, resolver, reach, dial)
    given = "\n".join(body.decode("ascii", "replace").split()).lower()
    if not hmac.compare_digest(given.encode(), content.lower().encode()):
        raise Failed("unauthorized", f"{name} does not answer with the file's content")
    return {"method": "BR 3.2.2.4.18", "file": FOLDER + file, "hops": hops}
