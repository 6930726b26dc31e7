"""Linear algebra by the names of `torch.linalg`."""

from .functions.linalg import matmul, vecdot
from .functions.matrix_norms import matrix_norm, norm, vector_norm

__all__ = ["matmul", "matrix_norm", "norm", "vecdot", "vector_norm"]
