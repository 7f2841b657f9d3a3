"""`python -m optr.cli`."""

import sys

from optr.cli import main

sys.exit(main())
