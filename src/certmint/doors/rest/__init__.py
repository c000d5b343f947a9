"""The REST door, `/api/v1`: devices for themselves, owners for their devices, operators."""
