"""Linear algebra by the names of `torch.linalg`."""

from .functions.linalg import matmul, norm, vecdot, vector_norm

__all__ = ["matmul", "norm", "vecdot", "vector_norm"]
