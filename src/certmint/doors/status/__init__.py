"""The status door: CRLs, OCSP and issuers' certificates, over plain HTTP, for everybody."""
