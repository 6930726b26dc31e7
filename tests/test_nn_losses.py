"""Losses: former flags, warnings, targets of other shapes and values, weights, special points."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import backtrail as bt
import backtrail.nn.functional as F
import pytest
from backtrail import nn

ONES, HALVES = bt.ones(4), bt.full((4,), 0.5)
LABELS = bt.tensor([0, 1, 1, 0])
LOGITS = bt.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0], [1.0, 3.0]])
# The functional loss, its module, and the operands of both.
FLAGGED: dict[str, tuple[Callable[..., Any], Any, tuple[Any, ...]]] = {
    "mse_loss": (F.mse_loss, nn.MSELoss, (ONES * 3, HALVES)),
    "l1_loss": (F.l1_loss, nn.L1Loss, (ONES * 3, HALVES)),
    "smooth_l1_loss": (F.smooth_l1_loss, nn.SmoothL1Loss, (ONES * 3, HALVES)),
    "kl_div": (F.kl_div, nn.KLDivLoss, (HALVES, ONES * 3)),
    "binary_cross_entropy": (F.binary_cross_entropy, nn.BCELoss, (HALVES, ONES)),
    "binary_cross_entropy_with_logits": (
        F.binary_cross_entropy_with_logits,
        nn.BCEWithLogitsLoss,
        (HALVES, ONES),
    ),
    "cross_entropy": (F.cross_entropy, nn.CrossEntropyLoss, (LOGITS, LABELS)),
    "nll_loss": (F.nll_loss, nn.NLLLoss, (LOGITS, LABELS)),
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
@pytest.mark.parametrize("name", FLAGGED)
@pytest.mark.parametrize(
    ("flags", "reduction"),
    [
        ({"size_average": False}, "sum"),
        ({"size_average": True}, "mean"),
        ({"reduce": False}, "none"),
        ({"reduce": True}, "mean"),
        ({"size_average": False, "reduce": True}, "sum"),
        ({"size_average": False, "reduce": False}, "none"),
    ],
)
def test_former_flags_mean_a_reduction(name: str, flags: dict[str, bool], reduction: str) -> None:
    function, module, operands = FLAGGED[name]
    want = function(*operands, reduction=reduction)
    assert want.shape == ((4,) if reduction == "none" else ())
    message = f"please use reduction='{reduction}' instead"
    with pytest.warns(UserWarning, match=message) as caught:
        got = function(*operands, **flags)
    assert caught[0].filename == __file__
    assert got.tolist() == want.tolist()
    with pytest.warns(UserWarning, match=message) as caught:
        made = module(**flags)
    assert caught[0].filename == __file__
    assert made.reduction == reduction
    assert made(*operands).tolist() == want.tolist()


def test_sum_and_values() -> None:
    with pytest.warns(UserWarning, match="size_average and reduce"):
        assert F.mse_loss(bt.ones(3), bt.zeros(3), size_average=False) == 3
    with pytest.warns(UserWarning, match="size_average and reduce"):
        assert F.mse_loss(bt.ones(3), bt.zeros(3), None, False).tolist() == [1, 1, 1]
    for name, (function, _, operands) in FLAGGED.items():
        with pytest.raises(ValueError, match=f"{name}: 'average' is no reduction"):
            function(*operands, reduction="average")


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss])
def test_targets_that_broadcast_warn(loss: Callable[..., Any]) -> None:
    message = re.escape(
        "Using a target size ((3,)) that is different to the input size ((3, 1)). This will "
        "likely lead to incorrect results due to broadcasting. Please ensure they have the same "
        "size."
    )
    with pytest.warns(UserWarning, match=message) as caught:
        loss(bt.ones(3, 1), bt.ones(3))
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="different to the input size"):
        loss(bt.ones(3, 1), bt.ones(()))
    loss(bt.ones(3, 1), bt.ones(3, 1))


def test_weights() -> None:
    x, y, w = bt.tensor([3.0, 1.0]), bt.tensor([1.0, 1.0]), bt.tensor([3.0, 1.0])
    assert F.mse_loss(x, y, weight=w) == 3  # (3 * 4 + 0) / (3 + 1)
    assert F.mse_loss(x, y, weight=w, reduction="sum") == 12
    assert F.l1_loss(x, y, weight=w) == 1.5
    assert F.l1_loss(x, y, weight=w, reduction="none").tolist() == [6, 0]
    assert F.huber_loss(x, y, weight=w) == 2.25  # 3 * 1.5 / 2: over the number of elements
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss):
        with pytest.raises(ValueError, match="Weights and input must have the same size"):
            loss(x, y, weight=bt.ones(1))


def test_settings_that_are_refused() -> None:
    x = bt.ones(2)
    for delta in (0, -1.0, math.nan):
        with pytest.raises(RuntimeError, match="must be positive"):
            F.huber_loss(x, x, delta=delta)
    with pytest.raises(TypeError, match="delta must be a number"):
        nn.HuberLoss(delta="1")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="must not be negative"):
        F.smooth_l1_loss(x, x, beta=-1)


def test_smooth_l1_without_a_smooth_part_is_l1() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert F.smooth_l1_loss(bt.tensor([3.0, 0.0]), bt.zeros(2), beta=0) == 1.5


@pytest.mark.parametrize("bad", [1.5, -0.1, math.nan])
def test_binary_cross_entropy_wants_probabilities(bad: float) -> None:
    good = bt.tensor([0.5, 1.0])
    with pytest.raises(RuntimeError, match="elements of input should be between 0 and 1"):
        F.binary_cross_entropy(bt.tensor([0.5, bad]), good)
    with pytest.raises(RuntimeError, match="elements of target should be between 0 and 1"):
        F.binary_cross_entropy(good, bt.tensor([0.5, bad]))
    assert F.binary_cross_entropy(bt.zeros(0), bt.zeros(0), reduction="sum") == 0


def test_binary_cross_entropy_in_captured_calls() -> None:
    step = bt.compile(lambda p, t: F.binary_cross_entropy(p, t))
    for p in (0.5, 0.25):
        want = -math.log(p)
        assert step(bt.tensor([p]), bt.ones(1)).item() == pytest.approx(want)


def test_shapes_of_labels() -> None:
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(ValueError, match="sizes of the batch must be equal"):
            loss(bt.zeros(3, 4), bt.zeros(2, dtype=bt.int64))
        with pytest.raises(RuntimeError, match=r"need labels of shape \(3,\)"):
            loss(bt.zeros(3, 4), bt.zeros(3, 1, dtype=bt.int64))
        with pytest.raises(RuntimeError, match=r"need labels of shape \(3, 1\)"):
            loss(bt.zeros(3, 3, 1), bt.zeros(3, dtype=bt.int64))
        with pytest.raises(RuntimeError, match=r"labels must be integers \(target.long\(\)\)"):
            loss(bt.zeros(3, 4), bt.zeros(3))
        assert loss(bt.zeros(4), bt.tensor(1), reduction="none").shape == ()
        assert loss(bt.zeros(4), bt.tensor([1]), reduction="none").shape == (1,)
        with pytest.raises(IndexError):
            loss(bt.zeros(1, 4), bt.tensor([4]))
    with pytest.raises(RuntimeError, match="ignore_index=1 is for labels"):
        F.cross_entropy(bt.zeros(3, 4), bt.zeros(3, 4), ignore_index=1)
    with pytest.raises(RuntimeError, match="there are 4 classes"):
        F.nll_loss(bt.zeros(3, 4), bt.zeros(3, dtype=bt.int64), bt.ones(3))


def test_kl_div() -> None:
    log_p, q = bt.tensor([[0.5, 0.25, 0.25]]).log(), bt.tensor([[0.0, 0.5, 0.5]])
    want = math.log(2)
    assert F.kl_div(log_p, q, reduction="sum").item() == pytest.approx(want)
    assert F.kl_div(log_p, q, reduction="batchmean").item() == pytest.approx(want)
    with pytest.warns(UserWarning, match="divides the total loss by both the batch size"):
        assert F.kl_div(log_p, q).item() == pytest.approx(want / 3)
    assert math.isnan(F.kl_div(log_p, -q, reduction="sum"))
    scalar = F.kl_div(bt.tensor(-1.0), bt.tensor(1.0), reduction="batchmean")
    assert scalar.item() == 1


def test_huber_and_smooth_l1_at_their_edges() -> None:
    x = bt.tensor([0.0, 1.0, -1.0, 2.0], requires_grad=True)
    for loss in (F.huber_loss, F.smooth_l1_loss):
        (grad,) = bt.autograd.grad(loss(x, bt.zeros(4), reduction="sum"), x)
        assert grad.tolist() == [0, 1, -1, 1]
