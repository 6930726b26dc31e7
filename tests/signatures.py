"""PyTorch's parameters of the functions and methods that both libraries have, by signature.

A row is the parameters (the first of a method left out; those after the star by name only), then
the names that have them. A name with several forms stands in several rows.
"""

from __future__ import annotations


def rows(table: str) -> dict[str, list[tuple[str, ...]]]:
    """The signatures of every name."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in table.strip().splitlines():
        shown, _, names = line.partition(":")
        if not _:
            continue
        for name in names.split():
            found.setdefault(name, []).append(tuple(shown.replace(",", " ").split()))
    return found


def parameters(signature: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The parameters by position, and those by name only."""
    at = signature.index("*") if "*" in signature else len(signature)
    return list(signature[:at]), list(signature[at + 1 :])


FUNCTIONS = """
data, *, dtype: as_tensor
data, *, dtype, requires_grad: tensor
high, size, *, dtype: randint
high, size, *, out: randint
input: abs absolute acos acosh all any arccos arccosh arcsin arcsinh arctan arctanh asin asinh
input: atan atanh bernoulli bitwise_not ceil clone cos cosh erf erfc exp exp2 expm1 fix floor
input: isfinite isinf isnan log log10 log1p log2 logical_not max median min neg negative nonzero
input: ravel reciprocal relu round rsqrt selu sigmoid sign sin sinh sqrt square squeeze t tan tanh
input: trace trunc
input, *, decimals: round
input, *, decimals, out: round
input, *, dtype: empty_like mean ones_like prod rand_like randn_like sum zeros_like
input, *, out: all any bitwise_not ceil cos cosh erf erfc exp exp2 expm1 fix floor log log1p
input, *, out: logical_not max median min neg negative nonzero reciprocal round rsqrt sigmoid sign
input, *, out: sin sinh sqrt tan tanh trunc
input, *, stable, dim, descending: argsort sort
input, *, stable, dim, descending, out: sort
input, alpha: celu
input, axis0, axis1: swapaxes
input, batch1, batch2, *, beta, alpha: baddbmm
input, batch1, batch2, *, beta, alpha, out: baddbmm
input, boundaries, *, out_int32, right: bucketize
input, boundaries, *, out_int32, right, out: bucketize
input, chunks, dim: chunk
input, diagonal: diag tril triu
input, diagonal, *, out: diag tril triu
input, dim: count_nonzero squeeze unsqueeze
input, dim, *, correction, keepdim: std var
input, dim, *, correction, keepdim, out: std var
input, dim, *, dtype: cumprod cumsum
input, dim, *, dtype, out: cumprod cumsum
input, dim, descending: argsort sort
input, dim, descending, *, out: sort
input, dim, index: index_select
input, dim, index, *, out: index_select
input, dim, index, *, sparse_grad: gather
input, dim, index, *, sparse_grad, out: gather
input, dim, index, source: index_copy
input, dim, index, source, *, alpha: index_add
input, dim, index, src: scatter scatter_add
input, dim, index, src, *, reduce: scatter
input, dim, index, value: index_fill scatter
input, dim, index, value, *, reduce: scatter
input, dim, keepdim: all amax amin any argmax argmin logsumexp max median min
input, dim, keepdim, *, dtype: mean prod sum
input, dim, keepdim, *, dtype, out: mean
input, dim, keepdim, *, out: all amax amin any logsumexp max median min
input, dim, start, length: narrow
input, dim, unbiased, keepdim: std var
input, dim, unbiased, keepdim, *, out: std var
input, dim0, dim1: swapdims
input, dims: flip permute tile
input, end, weight: lerp
input, end, weight, *, out: lerp
input, exponent: pow
input, exponent, *, out: pow
input, fill_value, *, dtype: full_like
input, high, *, dtype: randint_like
input, index: take
input, indices, dim: take_along_dim
input, indices, dim, *, out: take_along_dim
input, k, dim, keepdim: kthvalue
input, k, dim, keepdim, *, out: kthvalue
input, k, dim, largest, sorted: topk
input, k, dim, largest, sorted, *, out: topk
input, kernel_size, stride, padding, ceil_mode, count_include_pad: avg_pool1d
input, kernel_size, stride, padding, dilation, ceil_mode: max_pool1d max_pool2d
input, mask: masked_select
input, mask, *, out: masked_select
input, mask, source: masked_scatter
input, mask, value: masked_fill
input, mat1, mat2, *, beta, alpha: addmm
input, mat1, mat2, *, beta, alpha, out: addmm
input, mat2: bmm mm
input, mat2, *, out: bmm mm
input, max: clamp_max
input, mean, std, *, out: normal
input, min: clamp_min
input, min, max: clamp clip
input, min, max, *, out: clamp clip
input, nan, posinf, neginf: nan_to_num
input, nan, posinf, neginf, *, out: nan_to_num
input, num_samples, replacement: multinomial
input, num_samples, replacement, *, out: multinomial
input, offset, dim1, dim2: diag_embed diagonal
input, other: arctan2 atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift
input, other: bitwise_xor copysign div divide eq floor_divide fmod ge greater greater_equal gt
input, other: inner le less less_equal logical_and logical_or logical_xor lt matmul max maximum
input, other: min minimum mul multiply ne not_equal remainder true_divide
input, other, *, alpha: add sub subtract
input, other, *, alpha, out: add sub subtract
input, other, *, out: bitwise_and bitwise_left_shift bitwise_right_shift bitwise_xor copysign div
input, other, *, out: divide eq floor_divide fmod ge greater greater_equal gt inner le less
input, other, *, out: less_equal logical_and logical_or logical_xor lt matmul max maximum min
input, other, *, out: minimum mul multiply ne not_equal remainder
input, other, *, rounding_mode: div divide
input, other, *, rounding_mode, out: div divide
input, other, alpha: add sub subtract
input, other, alpha, *, out: add sub
input, other, rtol, atol, equal_nan: allclose isclose
input, output_size: adaptive_avg_pool1d adaptive_max_pool1d
input, p: bernoulli
input, repeats, dim, *, output_size: repeat_interleave
input, shape: reshape
input, shifts, dims: roll
input, size: broadcast_to
input, size, stride, storage_offset: as_strided
input, source, destination: moveaxis movedim
input, start_dim, end_dim: flatten
input, tensor: dot
input, tensor, *, out: dot
input, tensor1, tensor2, *, value: addcdiv addcmul
input, tensor1, tensor2, *, value, out: addcdiv addcmul
input, unbiased: std var
input, value: fill
input, vec: mv
input, vec, *, out: mv
input, vec2: outer
input, vec2, *, out: outer
input, weight, bias, stride, padding, dilation, groups: conv1d conv2d
input, weight, bias, stride, padding, output_padding, groups, dilation: conv_transpose1d
input, weight, bias, stride, padding, output_padding, groups, dilation: conv_transpose2d
low, high, size, *, dtype: randint
low, high, size, *, out: randint
mean, std: normal
mean, std, *, out: normal
n, *, dtype: eye randperm
n, *, out: eye randperm
n, m, *, dtype: eye
n, m, *, out: eye
repeats, *, output_size: repeat_interleave
row, col, offset, *, dtype: tril_indices triu_indices
size, *, dtype: empty ones rand randn zeros
size, *, out: empty ones rand randn zeros
size, fill_value, *, dtype: full
size, fill_value, *, out: full
sorted_sequence, input, *, out_int32, right, side, sorter: searchsorted
sorted_sequence, input, *, out_int32, right, side, sorter, out: searchsorted
start, end, steps, *, dtype: linspace
start, end, steps, *, out: linspace
start, end, steps, base, *, dtype: logspace
start, end, steps, base, *, out: logspace
tensors: hstack vstack
tensors, *, out: hstack vstack
tensors, dim: cat concat concatenate stack
tensors, dim, *, out: cat concat concatenate stack
type1, type2: promote_types
"""
METHODS = """
indices, dim: take_along_dim
: abs abs_ absolute absolute_ acos acos_ acosh acosh_ all any arccos arccos_ arccosh arccosh_
: arcsin arcsin_ arcsinh arcsinh_ arctan arctan_ arctanh arctanh_ asin asin_ asinh asinh_ atan
: atan_ atanh atanh_ bernoulli bitwise_not bitwise_not_ ceil ceil_ clone contiguous cos cos_ cosh
: cosh_ cpu cuda detach element_size erf erf_ erfc erfc_ exp exp2 exp2_ exp_ expm1 expm1_ fix fix_
: floor floor_ isfinite isinf isnan log log10 log10_ log1p log1p_ log2 log2_ log_ logical_not
: logical_not_ max median min neg neg_ negative negative_ nonzero random_ ravel reciprocal
: reciprocal_ relu relu_ retain_grad round round_ rsqrt rsqrt_ sigmoid sigmoid_ sign sign_ sin
: sin_ sinh sinh_ sqrt sqrt_ square square_ squeeze squeeze_ storage_offset t t_ tan tan_ tanh
: tanh_ trace trunc trunc_ zero_
*, decimals: round round_
*, dtype: mean prod sum
*, stable, dim, descending: argsort sort
axis0, axis1: swapaxes swapaxes_
batch1, batch2, *, beta, alpha: baddbmm baddbmm_
chunks, dim: chunk
diagonal: diag tril tril_ triu triu_
dim: count_nonzero squeeze squeeze_ unsqueeze unsqueeze_
dim, *, correction, keepdim: std var
dim, *, dtype: cumprod cumprod_ cumsum cumsum_
dim, descending: argsort sort
dim, index: index_select
dim, index, *, sparse_grad: gather
dim, index, source: index_copy index_copy_
dim, index, source, *, alpha: index_add index_add_
dim, index, src: scatter scatter_ scatter_add scatter_add_
dim, index, src, *, reduce: scatter scatter_
dim, index, value: index_fill index_fill_ scatter scatter_
dim, index, value, *, reduce: scatter scatter_
dim, keepdim: all amax amin any argmax argmin logsumexp max median min
dim, keepdim, *, dtype: mean prod sum
dim, start, length: narrow
dim, unbiased, keepdim: std var
dim0, dim1: swapdims swapdims_ transpose_
dimension, size, step: unfold
dims: flip permute tile
end, weight: lerp lerp_
exponent: pow pow_
fill_value, wrap: fill_diagonal_
from, to: random_ uniform_
gradient, retain_graph, create_graph: backward
index: take
k, dim, keepdim: kthvalue
k, dim, largest, sorted: topk
lambd: exponential_
mask: masked_select
mask, source: masked_scatter masked_scatter_
mask, value: masked_fill masked_fill_
mat1, mat2, *, beta, alpha: addmm addmm_
mat2: bmm mm
max: clamp_max clamp_max_
mean, std: normal_
min: clamp_min clamp_min_
min, max: clamp clamp_ clip clip_
nan, posinf, neginf: nan_to_num nan_to_num_
num_samples, replacement: multinomial
offset, dim1, dim2: diag_embed diagonal
other: arctan2 arctan2_ atan2 atan2_ bitwise_and bitwise_and_ bitwise_left_shift
other: bitwise_left_shift_ bitwise_or bitwise_or_ bitwise_right_shift bitwise_right_shift_
other: bitwise_xor bitwise_xor_ copysign copysign_ div div_ divide divide_ eq eq_ expand_as
other: floor_divide floor_divide_ fmod fmod_ ge ge_ greater greater_ greater_equal greater_equal_
other: gt gt_ inner le le_ less less_ less_equal less_equal_ logical_and logical_and_ logical_or
other: logical_or_ logical_xor logical_xor_ lt lt_ matmul max maximum min minimum mul mul_
other: multiply multiply_ ne ne_ not_equal not_equal_ remainder remainder_ reshape_as true_divide
other: true_divide_ type_as view_as
other, *, alpha: add add_ sub sub_ subtract subtract_
other, *, rounding_mode: div div_ divide divide_
other, alpha: add add_ sub sub_ subtract subtract_
other, rtol, atol, equal_nan: allclose isclose
p: bernoulli bernoulli_
repeats: repeat
repeats, dim, *, output_size: repeat_interleave
requires_grad: requires_grad_
shape: reshape
shifts, dims: roll
size: broadcast_to view
size, *, dtype: new_empty new_ones new_zeros
size, *, implicit: expand
size, fill_value, *, dtype: new_full
size, stride, storage_offset: as_strided as_strided_
source, destination: moveaxis movedim
start_dim, end_dim: flatten
tensor: dot
tensor1, tensor2, *, value: addcdiv addcdiv_ addcmul addcmul_
to: random_
unbiased: std var
value: fill_
vec: mv
vec2: outer
"""
