"""The use cases, as plain functions. Transactions begin and end here.

Doors and the CLI call in with values; the registry, issuance and validation are called out to.
`issue` is the one gate: every certificate of every kind comes out of it.
"""
