"""Functions over tensors, gathered from the files of their families, with their further forms."""

from __future__ import annotations

from ..tensor import Tensor as _Tensor
from . import (
    creation as _creation,
    elementwise as _elementwise,
    random as _random,
    ranges as _ranges,
    sharing as _sharing,  # noqa: F401  (for its methods of Tensor)
)
from .convolution import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .forms import (
    in_place as _in_place,
    view_in_place as _view_in_place,
    with_numpy_names as _with_numpy_names,
    with_out as _with_out,
)
from .indexing import *  # noqa: F403
from .linalg import *  # noqa: F403
from .placing import *  # noqa: F403
from .pooling import *  # noqa: F403
from .reductions import *  # noqa: F403
from .shaping import *  # noqa: F403

# The functions that the registry gives, where no file defines one by hand.
for _name, _function in _elementwise.FROM_REGISTRY.items():
    globals().setdefault(_name, _function)


def _words(text: str) -> list[str]:
    return text.split()


# PyTorch's functions that take `out=`, beside those of the registry: the dtype of `out` may be a
# wider one, or must be that of the result.
OUT = _words("""
    all any bitwise_not cat column_stack concat concatenate cumprod cumsum div divide dstack
    float_power hstack isin logcumsumexp logsumexp mean nanmean nansum pow prod round row_stack
    stack std sum true_divide var vstack
""")
OUT_EXACT = _words("""
    addbmm addmm addmv addr amax amin aminmax argmax argmin argsort baddbmm bernoulli bmm bucketize
    clamp clamp_max clamp_min clip cross cummax cummin diag diag_embed diff dot gather ger histc
    index_add index_copy index_select inner inverse isneginf isposinf kron kthvalue lerp
    log_softmax masked_select matmul matrix_power max median min mm mode msort multinomial mv
    nan_to_num nanmedian nanquantile narrow_copy nonzero norm outer polygamma quantile renorm
    scatter scatter_add scatter_reduce searchsorted softmax sort take take_along_dim tensordot
    topk tril triu vdot where
""")
OUT_OF_FACTORIES = _words("""
    arange empty eye full linspace logspace normal ones rand randint randn randperm range zeros
""")

# Functions with a method `name_` that writes the result into the tensor, and those whose result is
# a view, which the tensor becomes.
IN_PLACE = _words("""
    addbmm addmm addmv addr baddbmm bitwise_not clamp clamp_max clamp_min clip cumprod cumsum div
    divide float_power index_add index_copy index_fill index_reduce lerp masked_fill
    masked_scatter mvlgamma nan_to_num polygamma pow put renorm round scatter scatter_add
    scatter_reduce tril triu true_divide
""")
VIEWS_IN_PLACE = _words("as_strided squeeze swapaxes swapdims t transpose unsqueeze")

# Functions and methods along a dimension that NumPy's users may call `axis`; where calls must be
# quick (sum, mean, max, min, softmax) a method has the parameter itself.
WITH_AXIS = _words("""
    all amax amin aminmax any argmax argmin argsort chunk count_nonzero cumprod cumsum diff
    index_select kthvalue logcumsumexp logsumexp median mode nanmean nansum prod sort std topk
    unbind var
""")
for _name in WITH_AXIS:
    if _name in vars(_Tensor):
        setattr(_Tensor, _name, _with_numpy_names(vars(_Tensor)[_name]))
    if _name in globals() and _name not in OUT + OUT_EXACT:
        globals()[_name] = _with_numpy_names(globals()[_name])

for _name in OUT + OUT_EXACT:
    if _name in globals():
        globals()[_name] = _with_out(globals()[_name], _name in OUT_EXACT)
# By name, those of the functions that make tensors.
FACTORIES = {
    name: _with_out(getattr(module, name), name in OUT_EXACT)
    for module in (_creation, _random, _ranges)
    for name in module.__all__
    if name in OUT_OF_FACTORIES + OUT_EXACT
}
for _names, _form in ((IN_PLACE, _in_place), (VIEWS_IN_PLACE, _view_in_place)):
    for _name in _names:
        _plain = vars(_Tensor).get(_name)
        if _plain is not None and _name + "_" not in vars(_Tensor):
            setattr(_Tensor, _name + "_", _form(_plain, _name))

__all__ = sorted(n for n, f in globals().items() if callable(f) and not n.startswith("_"))
