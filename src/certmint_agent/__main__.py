"""`python -m certmint_agent`."""

import sys

from certmint_agent.cli import main

sys.exit(main())
