"""`python -m backtrail.cli`, where the `backtrail` script is not on the path."""

from . import main

raise SystemExit(main())
