"""ACME's use cases (RFC 8555): accounts and their bindings, orders, challenges, revocation.

They know nothing of JWS, URLs or HTTP; the door does. A certificate comes out of the one gate.
"""
