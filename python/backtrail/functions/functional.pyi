"""Types of the functions over tensors; made by `python -m backtrail._stubs`."""

# Functions of the files below that take `out=` stand here once more.
# mypy: disable-error-code="no-redef"
# ruff: noqa: E501, F403, F405, RUF022

import builtins
from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor
from .convolution import *
from .elementwise import *
from .indexing import *
from .linalg import *
from .placing import *
from .pooling import *
from .reductions import *
from .shaping import *

__all__ = [
    "ValuesIndices",
    "abs",
    "absolute",
    "acos",
    "acosh",
    "adaptive_avg_pool1d",
    "adaptive_max_pool1d",
    "add",
    "addcdiv",
    "addcmul",
    "addmm",
    "all",
    "allclose",
    "amax",
    "amin",
    "any",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "as_strided",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "atleast_1d",
    "avg_pool1d",
    "baddbmm",
    "binary_cross_entropy_terms",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "bmm",
    "broadcast_shapes",
    "broadcast_tensors",
    "broadcast_to",
    "bucketize",
    "cat",
    "ceil",
    "celu",
    "chunk",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "concat",
    "concatenate",
    "contiguous",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "copysign",
    "cos",
    "cosh",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "diag",
    "diag_embed",
    "diagonal",
    "diff",
    "div",
    "divide",
    "dot",
    "einsum",
    "elu",
    "eq",
    "equal",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expand",
    "expand_as",
    "expm1",
    "fill",
    "fix",
    "flatten",
    "flip",
    "floor",
    "floor_divide",
    "fmod",
    "gather",
    "ge",
    "gelu",
    "gelu_tanh",
    "greater",
    "greater_equal",
    "gt",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hstack",
    "index_add",
    "index_copy",
    "index_fill",
    "index_select",
    "inner",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "kthvalue",
    "le",
    "leaky_relu",
    "lerp",
    "less",
    "less_equal",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsigmoid",
    "logsumexp",
    "lt",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "matmul",
    "max",
    "max_pool1d",
    "max_pool2d",
    "maximum",
    "mean",
    "median",
    "min",
    "minimum",
    "mish",
    "mm",
    "moveaxis",
    "movedim",
    "mul",
    "multiply",
    "mv",
    "nan_to_num",
    "narrow",
    "ne",
    "neg",
    "negative",
    "nonzero",
    "norm",
    "not_equal",
    "outer",
    "permute",
    "pow",
    "prod",
    "promote_types",
    "ravel",
    "reciprocal",
    "relu",
    "relu6",
    "remainder",
    "repeat",
    "repeat_interleave",
    "reshape",
    "reshape_as",
    "roll",
    "round",
    "rsqrt",
    "scatter",
    "scatter_add",
    "searchsorted",
    "select",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "sort",
    "split",
    "spmm",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "std_mean",
    "sub",
    "subtract",
    "sum",
    "swapaxes",
    "swapdims",
    "t",
    "take",
    "take_along_dim",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "topk",
    "trace",
    "transpose",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "trunc_divide",
    "unbind",
    "unflatten",
    "unfold",
    "unique",
    "unsqueeze",
    "var",
    "var_mean",
    "vecdot",
    "view",
    "view_as",
    "vstack",
    "where",
]
FACTORIES: dict[str, Any]

def abs(input: Tensor, *, out: Any = None) -> Tensor:
    """Absolute value; its slope at 0 is taken as 0."""

def absolute(input: Tensor, *, out: Any = None) -> Tensor:
    """Absolute value; its slope at 0 is taken as 0."""

def acos(input: Tensor, *, out: Any = None) -> Tensor:
    """Angle in radians whose cosine is input."""

def acosh(input: Tensor, *, out: Any = None) -> Tensor:
    """Inverse hyperbolic cosine."""

def add(input: Any, other: Any, _last: Any = None, *, alpha: Any = 1, out: Any = None) -> Tensor:
    """Sum, input + alpha * other."""

def addcdiv(
    input: Any, tensor1: Any, tensor2: Any, _last: Any = None, *, value: Any = 1, out: Any = None
) -> Tensor:
    """input + value * tensor1 / tensor2."""

def addcmul(
    input: Any, tensor1: Any, tensor2: Any, _last: Any = None, *, value: Any = 1, out: Any = None
) -> Tensor:
    """input + value * tensor1 * tensor2."""

def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Any = None
) -> Tensor:
    """Return beta * input + alpha * (mat1 @ mat2). `out=` takes a tensor to write to."""

def all(
    input: Tensor, dim: Any = None, keepdim: builtins.bool = False, *, out: Any = None
) -> Tensor:
    """Test whether every element is true (not 0). `out=` takes a tensor to write to."""

def amax(
    input: Tensor, dim: Any = (), keepdim: builtins.bool = False, *, out: Any = None
) -> Tensor:
    """Return the largest element over dimensions; NaN when there is one. `out=` takes a tensor to write to."""

def amin(
    input: Tensor, dim: Any = (), keepdim: builtins.bool = False, *, out: Any = None
) -> Tensor:
    """Return the smallest element over dimensions; NaN when there is one. `out=` takes a tensor to write to."""

def any(
    input: Tensor, dim: Any = None, keepdim: builtins.bool = False, *, out: Any = None
) -> Tensor:
    """Test whether some element is true (not 0). `out=` takes a tensor to write to."""

def arccos(input: Tensor, *, out: Any = None) -> Tensor:
    """Angle in radians whose cosine is input."""

def arccosh(input: Tensor, *, out: Any = None) -> Tensor:
    """Inverse hyperbolic cosine."""

def arcsin(input: Tensor, *, out: Any = None) -> Tensor:
    """Angle in radians whose sine is input."""

def arcsinh(input: Tensor, *, out: Any = None) -> Tensor:
    """Inverse hyperbolic sine."""

def arctan(input: Tensor, *, out: Any = None) -> Tensor:
    """Angle in radians whose tangent is input."""

def arctan2(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Angle in radians of the point (other, input)."""

def arctanh(input: Tensor, *, out: Any = None) -> Tensor:
    """Inverse hyperbolic tangent."""

def argmax(
    input: Tensor,
    dim: builtins.int | None = None,
    keepdim: builtins.bool = False,
    *,
    out: Any = None,
) -> Tensor:
    """Return the index of the first largest element, of the flattened tensor by default. `out=` takes a tensor to write to."""

def argmin(
    input: Tensor,
    dim: builtins.int | None = None,
    keepdim: builtins.bool = False,
    *,
    out: Any = None,
) -> Tensor:
    """Return the index of the first smallest element, of the flattened tensor by default. `out=` takes a tensor to write to."""

def argsort(
    input: Tensor,
    dim: builtins.int = -1,
    descending: builtins.bool = False,
    stable: builtins.bool = False,
    *,
    out: Any = None,
) -> Tensor:
    """Return the indices that would sort a dimension. `out=` takes a tensor to write to."""

def asin(input: Tensor, *, out: Any = None) -> Tensor:
    """Angle in radians whose sine is input."""

def asinh(input: Tensor, *, out: Any = None) -> Tensor:
    """Inverse hyperbolic sine."""

def atan(input: Tensor, *, out: Any = None) -> Tensor:
    """Angle in radians whose tangent is input."""

def atan2(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Angle in radians of the point (other, input)."""

def atanh(input: Tensor, *, out: Any = None) -> Tensor:
    """Inverse hyperbolic tangent."""

def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Any = None
) -> Tensor:
    """Return beta * input + alpha * (batch1 @ batch2) for batches of matrices. `out=` takes a tensor to write to."""

def binary_cross_entropy_terms(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100."""

def bitwise_and(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Bitwise and of two integers or bools."""

def bitwise_left_shift(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """The bits of input moved up by other places; 0 once all have left."""

def bitwise_not(input: Tensor, *, out: Any = None) -> Tensor:
    """Flip every bit of integers; negate bools. `out=` takes a tensor to write to."""

def bitwise_or(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Bitwise or of two integers or bools."""

def bitwise_right_shift(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """The bits of input moved down by other places, its sign kept."""

def bitwise_xor(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Bitwise exclusive or of two integers or bools."""

def bmm(input: Tensor, mat2: Tensor, *, out: Any = None) -> Tensor:
    """Multiply two batches of matrices of equal length. `out=` takes a tensor to write to."""

def bucketize(
    input: Any,
    boundaries: Tensor,
    *,
    out_int32: builtins.bool = False,
    right: builtins.bool = False,
    out: Any = None,
) -> Tensor:
    """Return the bucket of each value between sorted boundaries. `out=` takes a tensor to write to."""

def cat(tensors: Sequence[Tensor], dim: builtins.int = 0, *, out: Any = None) -> Tensor:
    """Join tensors along a dimension; the other sizes must agree. `out=` takes a tensor to write to."""

def ceil(input: Tensor, *, out: Any = None) -> Tensor:
    """Smallest integer not below input."""

def celu(input: Tensor, alpha: builtins.float = 1.0, *, out: Any = None) -> Tensor:
    """input where positive, alpha * (exp(input / alpha) - 1) elsewhere."""

def chunk(input: Tensor, chunks: builtins.int, dim: builtins.int = 0) -> tuple[Tensor, ...]:
    """Cut a dimension into at most `chunks` views of equal size (the last may be smaller)."""

def clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Any = None) -> Tensor:
    """Limit input to [min, max]; either may be None, a number or a tensor. `out=` takes a tensor to write to."""

def clamp_max(input: Tensor, max: Any, *, out: Any = None) -> Tensor:
    """Limit input from above, by a number or a tensor. `out=` takes a tensor to write to."""

def clamp_min(input: Tensor, min: Any, *, out: Any = None) -> Tensor:
    """Limit input from below, by a number or a tensor. `out=` takes a tensor to write to."""

def clip(input: Tensor, min: Any = None, max: Any = None, *, out: Any = None) -> Tensor:
    """Limit input to [min, max]; either may be None, a number or a tensor. `out=` takes a tensor to write to."""

def concat(tensors: Sequence[Tensor], dim: builtins.int = 0, *, out: Any = None) -> Tensor:
    """Join tensors along a dimension; the other sizes must agree. `out=` takes a tensor to write to."""

def concatenate(tensors: Sequence[Tensor], dim: builtins.int = 0, *, out: Any = None) -> Tensor:
    """Join tensors along a dimension; the other sizes must agree. `out=` takes a tensor to write to."""

def copysign(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """The magnitude of input with the sign of other."""

def cos(input: Tensor, *, out: Any = None) -> Tensor:
    """Cosine of an angle in radians."""

def cosh(input: Tensor, *, out: Any = None) -> Tensor:
    """Hyperbolic cosine."""

def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """Count the elements that are not 0."""

def cumprod(input: Tensor, dim: builtins.int, *, dtype: Any = None, out: Any = None) -> Tensor:
    """Return the running product along a dimension. `out=` takes a tensor to write to."""

def cumsum(input: Tensor, dim: builtins.int, *, dtype: Any = None, out: Any = None) -> Tensor:
    """Return the running sum along a dimension. `out=` takes a tensor to write to."""

def diag(input: Tensor, diagonal: builtins.int = 0, *, out: Any = None) -> Tensor:
    """Make a diagonal matrix of a vector, or take the diagonal of a matrix. `out=` takes a tensor to write to."""

def diag_embed(
    input: Tensor,
    offset: builtins.int = 0,
    dim1: builtins.int = -2,
    dim2: builtins.int = -1,
    *,
    out: Any = None,
) -> Tensor:
    """Make matrices, dim1 and dim2 of the result, with the last dimension on a diagonal. `out=` takes a tensor to write to."""

def diff(
    input: Tensor,
    n: builtins.int = 1,
    dim: builtins.int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
    *,
    out: Any = None,
) -> Tensor:
    """Return the differences of neighbours along a dimension, n times over. `out=` takes a tensor to write to."""

def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Any = None) -> Tensor:
    """Divide input by other; `rounding_mode` is None, "trunc" or "floor". `out=` takes a tensor to write to."""

def divide(input: Any, other: Any, *, rounding_mode: str | None = None, out: Any = None) -> Tensor:
    """Divide input by other; `rounding_mode` is None, "trunc" or "floor". `out=` takes a tensor to write to."""

def dot(input: Tensor, tensor: Tensor, *, out: Any = None) -> Tensor:
    """Return the inner product of two vectors. `out=` takes a tensor to write to."""

def elu(input: Tensor, alpha: builtins.float = 1.0, *, out: Any = None) -> Tensor:
    """input where positive, alpha * (exp(input) - 1) elsewhere."""

def eq(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is equal to other."""

def erf(input: Tensor, *, out: Any = None) -> Tensor:
    """Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to input."""

def erfc(input: Tensor, *, out: Any = None) -> Tensor:
    """1 - erf(input), exact where that is small."""

def exp(input: Tensor, *, out: Any = None) -> Tensor:
    """e raised to the power input."""

def exp2(input: Tensor, *, out: Any = None) -> Tensor:
    """2 raised to the power input."""

def expm1(input: Tensor, *, out: Any = None) -> Tensor:
    """exp(input) - 1, exact near 0."""

def fix(input: Tensor, *, out: Any = None) -> Tensor:
    """input without its fraction."""

def floor(input: Tensor, *, out: Any = None) -> Tensor:
    """Largest integer not above input."""

def floor_divide(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Largest integer not above input / other."""

def fmod(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """The remainder of input / other that has input's sign."""

def gather(
    input: Tensor,
    dim: builtins.int,
    index: Tensor,
    *,
    sparse_grad: builtins.bool = False,
    out: Any = None,
) -> Tensor:
    """Take the element at index[i] along dim, for every position of index. `out=` takes a tensor to write to."""

def ge(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is at least other."""

def gelu(input: Tensor, *, out: Any = None) -> Tensor:
    """input * Phi(input), Phi the normal distribution function (by erf)."""

def gelu_tanh(input: Tensor, *, out: Any = None) -> Tensor:
    """GELU by its tanh approximation (Hendrycks and Gimpel, 2016)."""

def greater(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is greater than other."""

def greater_equal(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is at least other."""

def gt(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is greater than other."""

def hardsigmoid(input: Tensor, *, out: Any = None) -> Tensor:
    """min(max(input + 3, 0), 6) / 6."""

def hardswish(input: Tensor, *, out: Any = None) -> Tensor:
    """input * hardsigmoid(input)."""

def hardtanh(
    input: Tensor, min_val: builtins.float = -1.0, max_val: builtins.float = 1.0, *, out: Any = None
) -> Tensor:
    """input limited to [min_val, max_val]; its slope at both ends is 0."""

def hstack(tensors: Sequence[Tensor], *, out: Any = None) -> Tensor:
    """Join tensors along the second dimension, vectors along the first. `out=` takes a tensor to write to."""

def index_add(
    input: Tensor,
    dim: builtins.int,
    index: Tensor,
    source: Tensor,
    *,
    alpha: Any = 1,
    out: Any = None,
) -> Tensor:
    """Add alpha times the slices of source at a 1-d index along dim. `out=` takes a tensor to write to."""

def index_copy(
    input: Tensor, dim: builtins.int, index: Tensor, source: Tensor, *, out: Any = None
) -> Tensor:
    """Put the slices of source in those of a dimension that a 1-d index names. `out=` takes a tensor to write to."""

def index_select(input: Tensor, dim: builtins.int, index: Tensor, *, out: Any = None) -> Tensor:
    """Take the slices of a dimension named by a 1-d index. `out=` takes a tensor to write to."""

def inner(input: Tensor, other: Tensor, *, out: Any = None) -> Tensor:
    """Return the sum of products along the last dimensions; of a number, products. `out=` takes a tensor to write to."""

def isfinite(input: Tensor, *, out: Any = None) -> Tensor:
    """True where input is neither infinite nor NaN."""

def isinf(input: Tensor, *, out: Any = None) -> Tensor:
    """True where input is plus or minus infinity."""

def isnan(input: Tensor, *, out: Any = None) -> Tensor:
    """True where input is not a number."""

def kthvalue(
    input: Tensor,
    k: builtins.int,
    dim: builtins.int = -1,
    keepdim: builtins.bool = False,
    *,
    out: Any = None,
) -> ValuesIndices:
    """Return the k-th smallest element (from 1) of a dimension and its index; NaN is last. `out=` takes a tensor to write to."""

def le(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is at most other."""

def leaky_relu(input: Tensor, negative_slope: builtins.float = 0.01, *, out: Any = None) -> Tensor:
    """input where positive, negative_slope * input elsewhere."""

def lerp(input: Tensor, end: Any, weight: Any, *, out: Any = None) -> Tensor:
    """Interpolate: input + weight * (end - input). `out=` takes a tensor to write to."""

def less(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is less than other."""

def less_equal(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is at most other."""

def log(input: Tensor, *, out: Any = None) -> Tensor:
    """Natural logarithm."""

def log10(input: Tensor, *, out: Any = None) -> Tensor:
    """Logarithm to base 10."""

def log1p(input: Tensor, *, out: Any = None) -> Tensor:
    """log(1 + input), exact near 0."""

def log2(input: Tensor, *, out: Any = None) -> Tensor:
    """Logarithm to base 2."""

def log_softmax(
    input: Tensor,
    dim: builtins.int | None = None,
    _stacklevel: builtins.int = 3,
    dtype: Any = None,
    *,
    axis: builtins.int | None = None,
    out: Any = None,
) -> Tensor:
    """Return the logarithm of softmax along a dimension. `out=` takes a tensor to write to."""

def logical_and(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where both are true (not 0)."""

def logical_not(input: Tensor, *, out: Any = None) -> Tensor:
    """True where input is false (0)."""

def logical_or(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where at least one is true (not 0)."""

def logical_xor(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where exactly one is true (not 0)."""

def logsigmoid(input: Tensor, *, out: Any = None) -> Tensor:
    """log(sigmoid(input)), exact at both ends."""

def logsumexp(
    input: Tensor, dim: Any, keepdim: builtins.bool = False, *, out: Any = None
) -> Tensor:
    """Return log(sum(exp(input))) without overflow. `out=` takes a tensor to write to."""

def lt(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is less than other."""

def masked_select(input: Tensor, mask: Tensor, *, out: Any = None) -> Tensor:
    """Return the elements where mask is true, as one dimension. `out=` takes a tensor to write to."""

def matmul(input: Tensor, other: Tensor, *, out: Any = None) -> Tensor:
    """Multiply matrices; leading dimensions are a batch and broadcast, vectors are 1-d. `out=` takes a tensor to write to."""

def max(
    input: Tensor,
    dim: Any = None,
    keepdim: builtins.bool = False,
    *,
    other: Any = None,
    axis: Any = None,
    keepdims: builtins.bool = False,
    out: Any = None,
) -> Any:
    """Return the largest element; with a dim (values, indices); with a tensor `maximum`. `out=` takes a tensor to write to."""

def maximum(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """The larger of input and other; NaN when either is. Equal ones share the slope."""

def mean(
    input: Tensor,
    dim: Any = None,
    keepdim: builtins.bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: builtins.bool = False,
    out: Any = None,
) -> Tensor:
    """Average over dimensions (all by default) of a floating point tensor. `out=` takes a tensor to write to."""

def median(
    input: Tensor,
    dim: builtins.int | None = None,
    keepdim: builtins.bool = False,
    *,
    out: Any = None,
) -> Any:
    """Return the (lower) median of all elements, or of a dimension with its indices. `out=` takes a tensor to write to."""

def min(
    input: Tensor,
    dim: Any = None,
    keepdim: builtins.bool = False,
    *,
    other: Any = None,
    axis: Any = None,
    keepdims: builtins.bool = False,
    out: Any = None,
) -> Any:
    """Return the smallest element; with a dim (values, indices); with a tensor `minimum`. `out=` takes a tensor to write to."""

def minimum(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """The smaller of input and other; NaN when either is. Equal ones share the slope."""

def mish(input: Tensor, *, out: Any = None) -> Tensor:
    """input * tanh(softplus(input))."""

def mm(input: Tensor, mat2: Tensor, *, out: Any = None) -> Tensor:
    """Multiply two matrices. `out=` takes a tensor to write to."""

def mul(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Product, input * other."""

def multiply(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """Product, input * other."""

def mv(input: Tensor, vec: Tensor, *, out: Any = None) -> Tensor:
    """Multiply a matrix and a vector. `out=` takes a tensor to write to."""

def nan_to_num(
    input: Tensor,
    nan: builtins.float = 0.0,
    posinf: builtins.float | None = None,
    neginf: builtins.float | None = None,
    *,
    out: Any = None,
) -> Tensor:
    """Replace NaN and the infinities; by default with 0 and the largest finite numbers. `out=` takes a tensor to write to."""

def ne(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is different from other."""

def neg(input: Tensor, *, out: Any = None) -> Tensor:
    """Negation, -input."""

def negative(input: Tensor, *, out: Any = None) -> Tensor:
    """Negation, -input."""

def nonzero(input: Tensor, *, as_tuple: builtins.bool = False, out: Any = None) -> Any:
    """Return the indices of the elements that are not 0: one row each, or a tuple of columns. `out=` takes a tensor to write to."""

def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    *,
    out: Any = None,
) -> Tensor:
    """Return the vector p-norm over dimensions; "fro" is the 2-norm of all elements. `out=` takes a tensor to write to."""

def not_equal(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """True where input is different from other."""

def outer(input: Tensor, vec2: Tensor, *, out: Any = None) -> Tensor:
    """Return the products of every pair of elements of two vectors. `out=` takes a tensor to write to."""

def pow(input: Any, exponent: Any, *, out: Any = None) -> Tensor:
    """Raise input to a power; a power of 2, 0.5, 1 or -1 takes the short road. `out=` takes a tensor to write to."""

def prod(
    input: Tensor,
    dim: builtins.int | None = None,
    keepdim: builtins.bool = False,
    *,
    dtype: Any = None,
    out: Any = None,
) -> Tensor:
    """Multiply over one dimension, or over all. `out=` takes a tensor to write to."""

def reciprocal(input: Tensor, *, out: Any = None) -> Tensor:
    """1 / input."""

def relu(input: Tensor, *, out: Any = None) -> Tensor:
    """max(input, 0); its slope at 0 is 0."""

def relu6(input: Tensor, *, out: Any = None) -> Tensor:
    """min(max(input, 0), 6)."""

def remainder(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """The remainder of input / other that has other's sign."""

def round(input: Tensor, *, decimals: builtins.int = 0, out: Any = None) -> Tensor:
    """Round to `decimals` places; halves go to the even neighbour. `out=` takes a tensor to write to."""

def rsqrt(input: Tensor, *, out: Any = None) -> Tensor:
    """1 / sqrt(input)."""

def scatter(
    input: Tensor,
    dim: builtins.int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
    out: Any = None,
) -> Tensor:
    """Put src (a tensor or a number) at index along dim; `reduce` is "add" or "multiply". `out=` takes a tensor to write to."""

def scatter_add(
    input: Tensor, dim: builtins.int, index: Tensor, src: Tensor, *, out: Any = None
) -> Tensor:
    """Add src to the elements at index along dim. `out=` takes a tensor to write to."""

def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: builtins.bool = False,
    right: builtins.bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
    out: Any = None,
) -> Tensor:
    """Return where each value would be inserted to keep the last dimension sorted. `out=` takes a tensor to write to."""

def selu(input: Tensor, *, out: Any = None) -> Tensor:
    """Self-normalising ELU (Klambauer et al., 2017)."""

def sigmoid(input: Tensor, *, out: Any = None) -> Tensor:
    """Logistic function, 1 / (1 + exp(-input))."""

def sign(input: Tensor, *, out: Any = None) -> Tensor:
    """-1, 0 or 1 by the sign of input; 0 for NaN."""

def silu(input: Tensor, *, out: Any = None) -> Tensor:
    """input * sigmoid(input), also called swish."""

def sin(input: Tensor, *, out: Any = None) -> Tensor:
    """Sine of an angle in radians."""

def sinh(input: Tensor, *, out: Any = None) -> Tensor:
    """Hyperbolic sine."""

def softmax(
    input: Tensor,
    dim: builtins.int | None = None,
    _stacklevel: builtins.int = 3,
    dtype: Any = None,
    *,
    axis: builtins.int | None = None,
    out: Any = None,
) -> Tensor:
    """Return exp(input) over its sum along a dimension. `out=` takes a tensor to write to."""

def softplus(
    input: Tensor, beta: builtins.float = 1.0, threshold: builtins.float = 20.0, *, out: Any = None
) -> Tensor:
    """log(1 + exp(beta * input)) / beta; input itself above threshold / beta."""

def sort(
    input: Tensor,
    dim: builtins.int = -1,
    descending: builtins.bool = False,
    stable: builtins.bool = False,
    *,
    out: Any = None,
) -> ValuesIndices:
    """Sort along a dimension; returns (values, indices). NaN is the largest. `out=` takes a tensor to write to."""

def sqrt(input: Tensor, *, out: Any = None) -> Tensor:
    """Square root."""

def square(input: Tensor, *, out: Any = None) -> Tensor:
    """input * input."""

def stack(tensors: Sequence[Tensor], dim: builtins.int = 0, *, out: Any = None) -> Tensor:
    """Join tensors of one shape along a new dimension. `out=` takes a tensor to write to."""

def std(
    input: Tensor,
    dim: Any = None,
    unbiased: builtins.bool = True,
    keepdim: builtins.bool = False,
    *,
    correction: builtins.float | None = None,
    out: Any = None,
) -> Tensor:
    """Return the standard deviation, the square root of `var`; its slope where it is 0 is 0. `out=` takes a tensor to write to."""

def sub(input: Any, other: Any, _last: Any = None, *, alpha: Any = 1, out: Any = None) -> Tensor:
    """Difference, input - alpha * other."""

def subtract(
    input: Any, other: Any, _last: Any = None, *, alpha: Any = 1, out: Any = None
) -> Tensor:
    """Difference, input - alpha * other."""

def sum(
    input: Tensor,
    dim: Any = None,
    keepdim: builtins.bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: builtins.bool = False,
    out: Any = None,
) -> Tensor:
    """Add up over dimensions (all by default). Integers and bools give int64. `out=` takes a tensor to write to."""

def take(input: Tensor, index: Tensor, *, out: Any = None) -> Tensor:
    """Take elements of the flattened tensor. `out=` takes a tensor to write to."""

def take_along_dim(
    input: Tensor, indices: Tensor, dim: builtins.int | None = None, *, out: Any = None
) -> Tensor:
    """Take the element at indices[i] along dim (of the flattened tensor without one). `out=` takes a tensor to write to."""

def tan(input: Tensor, *, out: Any = None) -> Tensor:
    """Tangent of an angle in radians."""

def tanh(input: Tensor, *, out: Any = None) -> Tensor:
    """Hyperbolic tangent."""

def tensordot(a: Tensor, b: Tensor, dims: Any = 2, *, out: Any = None) -> Tensor:
    """Sum products over the last `dims` dimensions of a and the first of b, or over given ones. `out=` takes a tensor to write to."""

def topk(
    input: Tensor,
    k: builtins.int,
    dim: builtins.int = -1,
    largest: builtins.bool = True,
    sorted: builtins.bool = True,
    *,
    out: Any = None,
) -> ValuesIndices:
    """Return the k largest (or smallest) elements of a dimension and their indices. `out=` takes a tensor to write to."""

def tril(input: Tensor, diagonal: builtins.int = 0, *, out: Any = None) -> Tensor:
    """Keep the lower triangle of the last two dimensions, 0 above the diagonal. `out=` takes a tensor to write to."""

def triu(input: Tensor, diagonal: builtins.int = 0, *, out: Any = None) -> Tensor:
    """Keep the upper triangle of the last two dimensions, 0 below the diagonal. `out=` takes a tensor to write to."""

def true_divide(
    input: Any, other: Any, *, rounding_mode: str | None = None, out: Any = None
) -> Tensor:
    """Divide input by other; `rounding_mode` is None, "trunc" or "floor". `out=` takes a tensor to write to."""

def trunc(input: Tensor, *, out: Any = None) -> Tensor:
    """input without its fraction."""

def trunc_divide(input: Any, other: Any, *, out: Any = None) -> Tensor:
    """input / other without its fraction."""

def unbind(input: Tensor, dim: builtins.int = 0) -> tuple[Tensor, ...]:
    """Return the views at every index of a dimension."""

def var(
    input: Tensor,
    dim: Any = None,
    unbiased: builtins.bool = True,
    keepdim: builtins.bool = False,
    *,
    correction: builtins.float | None = None,
    out: Any = None,
) -> Tensor:
    """Return the variance: squared deviations from the mean, summed, over n - correction. `out=` takes a tensor to write to."""

def vstack(tensors: Sequence[Tensor], *, out: Any = None) -> Tensor:
    """Join tensors as rows. `out=` takes a tensor to write to."""

def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Any = None) -> Any:
    """Take input where condition is true, other elsewhere; alone: the indices of what is true. `out=` takes a tensor to write to."""
