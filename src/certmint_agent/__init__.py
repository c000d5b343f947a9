"""certmint-agent: keeps a device's HTTPS certificate fresh for the life of the device.

It needs Python and cryptography, nothing else unless its keys are in hardware, and shares no code
with the server. What the server sends is data: it is parsed, compared and written into fixed
places, and never becomes a path or a word of a command.
"""

import datetime as dt

VERSION = "0.1.0"

# No clock that shows less than this can be right, since this program did not exist yet.
BUILD_DATE = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
