"""`python -m lateral`: see `lateral.cli`."""

import sys

from lateral.cli import main
from lateral.startup import hear_interrupts

hear_interrupts()
sys.exit(main())
