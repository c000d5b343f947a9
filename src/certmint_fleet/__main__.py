"""`python -m certmint_fleet`."""

import sys

from certmint_fleet.cli import main

sys.exit(main())
