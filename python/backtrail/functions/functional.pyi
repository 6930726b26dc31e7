"""Types of the functions over tensors; made by `python -m backtrail._stubs`."""

from typing import Any

from .convolution import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .indexing import *  # noqa: F403
from .linalg import *  # noqa: F403
from .pooling import *  # noqa: F403
from .reductions import *  # noqa: F403
from .shaping import *  # noqa: F403
from ..tensor import Tensor

def abs(input: Tensor) -> Tensor:
    """Absolute value; its slope at 0 is taken as 0."""

def absolute(input: Tensor) -> Tensor:
    """Absolute value; its slope at 0 is taken as 0."""

def acos(input: Tensor) -> Tensor:
    """Angle in radians whose cosine is input."""

def acosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine."""

def add(input: Any, other: Any, /, alpha: float = 1.0) -> Tensor:
    """Sum, input + alpha * other."""

def addcdiv(input: Any, tensor1: Any, tensor2: Any, /, value: float = 1.0) -> Tensor:
    """input + value * tensor1 / tensor2."""

def addcmul(input: Any, tensor1: Any, tensor2: Any, /, value: float = 1.0) -> Tensor:
    """input + value * tensor1 * tensor2."""

def arccos(input: Tensor) -> Tensor:
    """Angle in radians whose cosine is input."""

def arccosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine."""

def arcsin(input: Tensor) -> Tensor:
    """Angle in radians whose sine is input."""

def arcsinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""

def arctan(input: Tensor) -> Tensor:
    """Angle in radians whose tangent is input."""

def arctan2(input: Any, other: Any) -> Tensor:
    """Angle in radians of the point (other, input)."""

def arctanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""

def asin(input: Tensor) -> Tensor:
    """Angle in radians whose sine is input."""

def asinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""

def atan(input: Tensor) -> Tensor:
    """Angle in radians whose tangent is input."""

def atan2(input: Any, other: Any) -> Tensor:
    """Angle in radians of the point (other, input)."""

def atanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""

def binary_cross_entropy_terms(input: Any, other: Any) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100."""

def bitwise_and(input: Any, other: Any) -> Tensor:
    """Bitwise and of two integers or bools."""

def bitwise_or(input: Any, other: Any) -> Tensor:
    """Bitwise or of two integers or bools."""

def bitwise_xor(input: Any, other: Any) -> Tensor:
    """Bitwise exclusive or of two integers or bools."""

def ceil(input: Tensor) -> Tensor:
    """Smallest integer not below input."""

def celu(input: Tensor, /, alpha: float = 1.0) -> Tensor:
    """input where positive, alpha * (exp(input / alpha) - 1) elsewhere."""

def copysign(input: Any, other: Any) -> Tensor:
    """The magnitude of input with the sign of other."""

def cos(input: Tensor) -> Tensor:
    """Cosine of an angle in radians."""

def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine."""

def elu(input: Tensor, /, alpha: float = 1.0) -> Tensor:
    """input where positive, alpha * (exp(input) - 1) elsewhere."""

def eq(input: Any, other: Any) -> Tensor:
    """True where input is equal to other."""

def erf(input: Tensor) -> Tensor:
    """Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to input."""

def erfc(input: Tensor) -> Tensor:
    """1 - erf(input), exact where that is small."""

def exp(input: Tensor) -> Tensor:
    """e raised to the power input."""

def exp2(input: Tensor) -> Tensor:
    """2 raised to the power input."""

def expm1(input: Tensor) -> Tensor:
    """exp(input) - 1, exact near 0."""

def fill(input: Any, other: Any) -> Tensor:
    """value in the shape of input."""

def fix(input: Tensor) -> Tensor:
    """input without its fraction."""

def floor(input: Tensor) -> Tensor:
    """Largest integer not above input."""

def floor_divide(input: Any, other: Any) -> Tensor:
    """Largest integer not above input / other."""

def fmod(input: Any, other: Any) -> Tensor:
    """The remainder of input / other that has input's sign."""

def ge(input: Any, other: Any) -> Tensor:
    """True where input is at least other."""

def gelu(input: Tensor) -> Tensor:
    """input * Phi(input), Phi the normal distribution function (by erf)."""

def gelu_tanh(input: Tensor) -> Tensor:
    """GELU by its tanh approximation (Hendrycks and Gimpel, 2016)."""

def greater(input: Any, other: Any) -> Tensor:
    """True where input is greater than other."""

def greater_equal(input: Any, other: Any) -> Tensor:
    """True where input is at least other."""

def gt(input: Any, other: Any) -> Tensor:
    """True where input is greater than other."""

def hardsigmoid(input: Tensor) -> Tensor:
    """min(max(input + 3, 0), 6) / 6."""

def hardswish(input: Tensor) -> Tensor:
    """input * hardsigmoid(input)."""

def isfinite(input: Tensor) -> Tensor:
    """True where input is neither infinite nor NaN."""

def isinf(input: Tensor) -> Tensor:
    """True where input is plus or minus infinity."""

def isnan(input: Tensor) -> Tensor:
    """True where input is not a number."""

def le(input: Any, other: Any) -> Tensor:
    """True where input is at most other."""

def leaky_relu(input: Tensor, /, negative_slope: float = 0.01) -> Tensor:
    """input where positive, negative_slope * input elsewhere."""

def less(input: Any, other: Any) -> Tensor:
    """True where input is less than other."""

def less_equal(input: Any, other: Any) -> Tensor:
    """True where input is at most other."""

def log(input: Tensor) -> Tensor:
    """Natural logarithm."""

def log10(input: Tensor) -> Tensor:
    """Logarithm to base 10."""

def log1p(input: Tensor) -> Tensor:
    """log(1 + input), exact near 0."""

def log2(input: Tensor) -> Tensor:
    """Logarithm to base 2."""

def logical_and(input: Any, other: Any) -> Tensor:
    """True where both are true (not 0)."""

def logical_not(input: Tensor) -> Tensor:
    """True where input is false (0)."""

def logical_or(input: Any, other: Any) -> Tensor:
    """True where at least one is true (not 0)."""

def logical_xor(input: Any, other: Any) -> Tensor:
    """True where exactly one is true (not 0)."""

def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), exact at both ends."""

def lt(input: Any, other: Any) -> Tensor:
    """True where input is less than other."""

def maximum(input: Any, other: Any) -> Tensor:
    """The larger of input and other; NaN when either is. Equal ones share the slope."""

def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of input and other; NaN when either is. Equal ones share the slope."""

def mish(input: Tensor) -> Tensor:
    """input * tanh(softplus(input))."""

def mul(input: Any, other: Any) -> Tensor:
    """Product, input * other."""

def multiply(input: Any, other: Any) -> Tensor:
    """Product, input * other."""

def ne(input: Any, other: Any) -> Tensor:
    """True where input is different from other."""

def neg(input: Tensor) -> Tensor:
    """Negation, -input."""

def negative(input: Tensor) -> Tensor:
    """Negation, -input."""

def not_equal(input: Any, other: Any) -> Tensor:
    """True where input is different from other."""

def reciprocal(input: Tensor) -> Tensor:
    """1 / input."""

def relu(input: Tensor) -> Tensor:
    """max(input, 0); its slope at 0 is 0."""

def relu6(input: Tensor) -> Tensor:
    """min(max(input, 0), 6)."""

def remainder(input: Any, other: Any) -> Tensor:
    """The remainder of input / other that has other's sign."""

def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(input)."""

def selu(input: Tensor) -> Tensor:
    """Self-normalising ELU (Klambauer et al., 2017)."""

def sigmoid(input: Tensor) -> Tensor:
    """Logistic function, 1 / (1 + exp(-input))."""

def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 by the sign of input."""

def silu(input: Tensor) -> Tensor:
    """input * sigmoid(input), also called swish."""

def sin(input: Tensor) -> Tensor:
    """Sine of an angle in radians."""

def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine."""

def softplus(input: Tensor, /, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * input)) / beta; input itself above threshold / beta."""

def sqrt(input: Tensor) -> Tensor:
    """Square root."""

def square(input: Tensor) -> Tensor:
    """input * input."""

def sub(input: Any, other: Any, /, alpha: float = 1.0) -> Tensor:
    """Difference, input - alpha * other."""

def subtract(input: Any, other: Any, /, alpha: float = 1.0) -> Tensor:
    """Difference, input - alpha * other."""

def tan(input: Tensor) -> Tensor:
    """Tangent of an angle in radians."""

def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""

def trunc(input: Tensor) -> Tensor:
    """input without its fraction."""
