"""Works campaigns off and dies by SIGKILL when the clock is looked at for the last time allowed."""

import datetime as dt
import os
import signal
import sys

from house import key_store

from certmint.enrolment.campaigning import work_campaigns
from certmint.registry.engine import open_database


def main(url: str, now: str, looks: str) -> None:
    left = int(looks)

    def clock() -> dt.datetime:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return dt.datetime.fromisoformat(now)

    work_campaigns(open_database(url), key_store(), clock, lambda: True, piece=2)


main(*sys.argv[1:])
