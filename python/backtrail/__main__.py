"""`python -m backtrail`, where the `backtrail` script is not on the path."""

from .cli import main

raise SystemExit(main())
