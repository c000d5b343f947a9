"""What SWS clients send: query, form or JSON as one tree of values, and how its leaves are read.

Laws: a body counts more than the query; credentials are taken out before anything else looks;
no error repeats a value that might be one. Forms nest by brackets: `domains[example.com][dcv]`.
"""

import base64
import binascii
import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from certmint.model.csr import CSR, parse_csr
from certmint.model.entities import RevocationReason
from certmint.model.errors import BadInput
from certmint.model.serial import Serial, parse_serial

_MOST_FIELDS = 500
_DEEPEST = 4
_PIECES = re.compile(r"\[([^\[\]]*)\]")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*\Z")
_UNIQUE = re.compile(r"[a-z0-9]{1,20}\Z")
_REASONS = {each.value.replace("-", ""): each for each in RevocationReason}


def parameters(query: str, body: bytes) -> dict[str, Any]:
    """Everything that a request says, in one tree. Raises BadInput `request-syntax`."""
    found = _form(query)
    text = body.strip()
    # What a body is follows from itself: curl says "form" of every body that it is not told of.
    if text.startswith(b"{"):
        return found | _object(text)
    if text:
        try:
            return found | _form(text.decode())
        except UnicodeDecodeError:
            raise _wrong("base", "the body is neither JSON nor a form") from None
    return found


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong("base", "the body is not JSON") from None
    return dict(found)


def _form(text: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise _wrong("base", f"a form has at most {_MOST_FIELDS} fields") from None
    tree: dict[str, Any] = {}
    for name, value in pairs:
        first, _, rest = name.partition("[")
        path = [first, *_PIECES.findall(f"[{rest}" if rest else "")]
        _plant(tree, path[:_DEEPEST], value)
    return tree


def _plant(tree: dict[str, Any], path: list[str], value: str) -> None:
    *branches, leaf = path
    if leaf == "" and branches:  # serials[]=…
        *branches, name = branches
        tree = _branch(tree, branches)
        grown = tree.setdefault(name, [])
        if isinstance(grown, list):
            grown.append(value)
        return
    _branch(tree, branches)[leaf] = value


def _branch(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for name in path:
        below = tree.setdefault(name, {})
        if not isinstance(below, dict):
            raise _wrong(name, "is a value and a table at once")
        tree = below
    return tree


def _wrong(name: str, what: str) -> BadInput:
    return BadInput("request-syntax", f"{name}: {what}")


def text_of(tree: Mapping[str, Any], name: str, most: int = 255) -> str:
    """A text, "" for none; numbers are taken as they are written."""
    value = tree.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong(name, "must be a text")
    found = str(value).strip()
    if len(found) > most or "\0" in found:
        raise _wrong(name, f"must have at most {most} characters")
    return found


def number_of(tree: Mapping[str, Any], name: str, *, least: int, most: int, otherwise: int) -> int:
    """A whole number within its bounds."""
    said = text_of(tree, name, 10)
    if not said:
        return otherwise
    if not (said.isascii() and said.isdigit() and least <= int(said) <= most):
        raise _wrong(name, f"must be a number from {least} to {most}")
    return int(said)


def table_of(tree: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """A nested table; None for none."""
    value = tree.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        raise _wrong(name, "must be an object")
    return value


def day_of(tree: Mapping[str, Any], name: str) -> dt.datetime | None:
    """A day, as its first moment in UTC, or a moment; None for none."""
    said = text_of(tree, name, 40)
    if not said:
        return None
    try:
        found = dt.datetime.fromisoformat(said)
    except ValueError:
        raise _wrong(name, "must be a date such as 2026-11-24") from None
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found


def domains_of(tree: Mapping[str, Any], name: str) -> dict[str, str] | None:
    """Names with the `dcv` of each: `{name: {dcv: …}}`, `{name: …}`, a list, or one text."""
    value = tree.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value.strip())
    if isinstance(value, list):
        value = dict.fromkeys(each for each in value if isinstance(each, str))
    if not isinstance(value, dict) or len(value) > 100:
        raise _wrong(name, "must be an object of at most 100 names, each with its dcv")
    found = {}
    for each, choice in value.items():
        inner = choice.get("dcv") if isinstance(choice, dict) else choice
        if inner is not None and not isinstance(inner, str):
            raise _wrong(name, "each name has a dcv: a method, or an address")
        found[each] = (inner or "").strip()
    return found


def csr_of(tree: Mapping[str, Any], name: str = "csr") -> CSR | None:
    r"""A CSR in any form that was seen in the wild: PEM, with CRLF or a literal `\n`; base64 of
    PEM or of DER. None for none. Raises BadInput `csr-syntax` …
    """  # fmt: skip
    said = text_of(tree, name, 24_000)
    if not said:
        return None
    said = said.replace("\\r", "").replace("\\n", "\n").replace("\r", "")
    if "-----BEGIN" in said:
        return parse_csr(said.encode())
    if not _BASE64.match(said):
        raise BadInput("csr-syntax", "the CSR is neither PEM nor base64 of one")
    try:
        octets = base64.b64decode("".join(said.split()), validate=True)
    except (ValueError, binascii.Error):
        raise BadInput("csr-syntax", "the CSR is neither PEM nor base64 of one") from None
    return parse_csr(octets.replace(b"\r", b"") if b"-----BEGIN" in octets else octets)


def unique_of(tree: Mapping[str, Any]) -> str:
    """What makes a CSR's tokens other ones; "" for none. Raises BadInput `unique-value`."""
    said = text_of(tree, "unique_value").lower()
    if said and not _UNIQUE.match(said):
        raise BadInput("unique-value", "the unique value is not 1 to 20 letters and digits")
    return said


def serials_of(tree: Mapping[str, Any]) -> tuple[Serial, ...]:
    """Serial numbers, in hex. Raises BadInput `serial-syntax`."""
    value = tree.get("serials") or []
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value.strip())
    if not isinstance(value, list) or len(value) > 100:
        raise _wrong("serials", "must be a list of at most 100 serial numbers")
    return tuple(parse_serial(str(each)) for each in value)


def reason_of(tree: Mapping[str, Any]) -> RevocationReason:
    """Why a certificate is revoked, in our words or those of RFC 5280 (`keyCompromise`).

    A prose reason is not guessed at: a key compromise that is taken for something else leaves the
    key in use. Raises BadInput `revocation-reason`.
    """
    said = text_of(tree, "reason", 64)
    folded = re.sub(r"[^a-z]", "", said.lower())
    if not said:
        return RevocationReason.UNSPECIFIED
    if folded not in _REASONS or _REASONS[folded] is RevocationReason.CA_COMPROMISE:
        known = ", ".join(
            each for each in RevocationReason if each is not RevocationReason.CA_COMPROMISE
        )
        raise BadInput("revocation-reason", f"{said!r} is no reason: use one of {known}")
    return _REASONS[folded]
