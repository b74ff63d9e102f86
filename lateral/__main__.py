"""`python -m lateral`: see `lateral.cli`."""

import sys

from lateral.cli import main

sys.exit(main())
