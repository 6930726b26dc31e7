"""Ops of your own in C++, by the names of `torch.utils.cpp_extension`.

`python -m backtrail.cpp_extension --cmake-dir` prints where a package's CMake finds backtrail.
"""

from .extension.cpp_extension import *  # noqa: F403
from .extension.cpp_extension import main

if __name__ == "__main__":
    main()
