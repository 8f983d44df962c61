"""`python -m ganmod_lite`: the command `ganmod-lite`."""

import sys

from ganmod_lite.cli import main

sys.exit(main())
