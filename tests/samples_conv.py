"""Samples of convolution and pooling; see samples.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import references_conv as conv
from sampling import Sample, distinct, ints, x

T, F = True, False
# Image, filters, bias; stride, padding, dilation, groups, size of the output.
CONVOLUTIONS: list[Any] = [
    ((2, 3, 5, 6), (4, 3, 3, 2), x(4), ((1, 1), (1, 0), (1, 1), 1, (5, 5))),
    ((1, 4, 7, 6), (2, 2, 2, 3), x(2), ((2, 3), (1, 4), (2, 1), 2, (4, 4))),
    ((2, 3, 4, 5), (3, 1, 3, 3), None, ((1, 1), (1, 1), (1, 1), 3, (4, 5))),
    ((1, 2, 6, 5), (4, 1, 3, 2), x(4), ((2, 1), (0, 1), (1, 2), 2, (2, 5))),
    ((2, 3, 3, 4), (2, 3, 1, 1), x(2), ((1, 1), (0, 0), (1, 1), 1, (3, 4))),
    ((2, 2, 11), (3, 2, 4), x(3), ((2,), (2,), (1,), 1, (6,))),
    ((0, 2, 4, 4), (3, 2, 2, 2), x(3), ((1, 1), (0, 0), (1, 1), 1, (3, 3))),
    ((1, 1, 1, 1), (1, 1, 5, 5), x(1), ((3, 3), (4, 4), (1, 1), 1, (2, 2))),
]
# Input; kernel, stride, padding, dilation, size of the output.
POOLINGS: list[Any] = [
    ((1, 2, 4, 6), ((2, 2), (2, 2), (0, 0), (1, 1), (2, 3))),
    ((2, 5, 7), ((2, 2), (2, 2), (0, 0), (1, 1), (2, 3))),
    ((1, 2, 5, 5), ((3, 2), (2, 1), (1, 1), (1, 1), (3, 6))),
    ((2, 7, 6), ((2, 3), (1, 2), (0, 1), (3, 1), (4, 3))),
    ((2, 3, 9), ((3,), (2,), (1,), (1,), (5,))),
    ((1, 1, 5, 4), ((3, 3), (3, 3), (0, 0), (1, 1), (2, 2))),  # the last windows reach out
    ((2, 5, 7), ((0, 0), (1, 1), (0, 0), (1, 1), (3, 2))),  # adaptive
]

CONV_SAMPLES: dict[str, list[Sample]] = {
    # convolution: 2-d with everything uneven, 1-d, of one channel a group, as a product
    "convolution": [
        Sample((x(*image), x(*filters), b), a, lambda x, w, b, a=a: conv.convolution(x, w, b, *a))
        for image, filters, b, a in CONVOLUTIONS
    ],
    "conv_transpose": [
        Sample(
            (x(image[0], filters[0], *a[4]), x(*filters), None),
            (*a[:4], image[2:]),
            lambda g, w, b, a=(*a[:4], image[2:]): conv.conv_transpose(g, w, b, *a),
        )
        for image, filters, _, a in CONVOLUTIONS
    ]
    + [
        Sample(
            (x(1, 2, 3), x(2, 1, 4), x(1)),
            ((2,), (1,), (1,), 1, (7,)),
            lambda g, w, b: conv.conv_transpose(g, w, b, (2,), (1,), (1,), 1, (7,)),
        )
    ],
    "conv_weight": [
        Sample(
            (x(*image), x(image[0], filters[0], *a[4])),
            (*a[:4], filters[2:]),
            lambda x, g, a=(*a[:4], filters[2:]): conv.conv_weight(x, g, *a),
        )
        for image, filters, _, a in CONVOLUTIONS
    ],
    "max_pool": [
        Sample((distinct(*shape),), a, lambda x, a=a: conv.max_pool(x, *a)) for shape, a in POOLINGS
    ],
    "max_pool_backward": [
        Sample(
            (x(1, 2, 2, 3), ints(24, 1, 2, 2, 3).astype("int32")),
            ((3, 3), (2, 2), (1, 1), (1, 1), (4, 6)),
            lambda g, i: conv.max_pool_backward(g, i, (4, 6)),
        ),
        Sample(
            (x(1, 1, 1, 2), np.array([[[[6, 3]]]], "int32")),
            ((2, 2), (2, 2), (0, 0), (1, 1), (3, 5)),
            lambda g, i: conv.max_pool_backward(g, i, (3, 5)),
        ),
    ],
    "avg_pool": [
        Sample((x(*shape),), (*a, *more), lambda x, a=(*a, *more): conv.avg_pool(x, *a))
        for shape, a in POOLINGS
        if set(a[3]) == {1}
        for more in ((), (F, 0), (T, 3))
        if a[0][0] or not more
    ],
    "avg_pool_backward": [
        Sample(
            (x(*shape[: -len(a[4])], *a[4]),),
            (*a[:4], shape[-len(a[4]) :], *more),
            lambda g, a=(*a[:4], shape, *more): conv.avg_pool_backward(g, *a),
        )
        for shape, a in POOLINGS
        if set(a[3]) == {1}
        for more in ((), (F, 0))
    ],
}
