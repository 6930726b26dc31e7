"""Functions over tensors, gathered from the files of their families."""

from __future__ import annotations

from . import elementwise
from .convolution import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .indexing import *  # noqa: F403
from .linalg import *  # noqa: F403
from .pooling import *  # noqa: F403
from .reductions import *  # noqa: F403
from .shaping import *  # noqa: F403

# The functions that the registry gives, where no file defines one by hand.
for _name, _function in elementwise.FROM_REGISTRY.items():
    globals().setdefault(_name, _function)
