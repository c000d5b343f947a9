"""Where SQL is spoken, and nowhere else.

Laws: every row of a tenant carries its tenant id and every read or write of such rows asks for
it; a state moves by one compare-and-set; every change appends its audit event in the same
transaction; nothing that was issued is ever deleted. SQLite and PostgreSQL hold one schema.

`engine` opens a database and runs transactions, `reads` and `writes` are functions over one of
them, `audit` is the hash chain. No decision is taken here: that is `certmint.policy`.
"""
