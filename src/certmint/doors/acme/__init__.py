"""The ACME door (RFC 8555): one directory for each way of issuing that a manufacturer opened."""
