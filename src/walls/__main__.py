"""`python -m walls`: the command line."""

import sys

from walls.project.commands import main

sys.exit(main())
