"""Where a CA key is used, and nowhere else.

`authority` turns approvals into certificates, `crl` and `ocsp` sign what became of them. A key
is a URI (`keys`); what a certificate carries is one table (`extensions`); `template` writes it
as bytes, pyca's builder writes it again, and `lint` looks at the result without knowing either.
No network, no database and no clock: time, randomness and keys are arguments. (The throw-away
keys of a rehearsal and the key pairs of `create_key` are made here, by the crypto libraries.)
"""
