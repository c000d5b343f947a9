"""What hardware says about a key: is it in a device, in which one, and who vouches for that?

`statement.verify` judges one attestation object of ACME's device-attest-01, `credential` the two
messages by which a TPM without an AK certificate proves itself. Everything here is a pure
function of its arguments: certificates that the caller trusts, the moment, the challenge. What
cannot be read or is not understood is refused. Whether the hardware is one that the registry
expects, whether a challenge was used before, and whether the key may be certified, it does not
decide.
"""
