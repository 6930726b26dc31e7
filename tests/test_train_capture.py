"""The training loop on captured steps: the same losses, and going on where that cannot be."""

from __future__ import annotations

import backtrail as bt
import pytest
import test_train as fit_is_called_in
from backtrail import Tensor, nn
from backtrail.train import fit
from test_train import mse, run, same


def test_captured_steps_have_the_same_losses() -> None:
    assert same(run(compile=False), run())


def test_what_cannot_be_captured_goes_on_without() -> None:
    whole = run(compile=False)

    def looks(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = mse(model, batch)
        assert not (model.training and loss.item() > 1e9)
        return loss

    with pytest.warns(UserWarning, match="with looks cannot.*item at .*goes on without") as said:
        assert same(run(loss_fn=looks), whole)
    assert said[0].filename == fit_is_called_in.__file__

    seen: list[int] = []

    def counts(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(len(seen))
        return mse(model, batch)

    with pytest.warns(UserWarning, match="with counts .*changes `seen`.*goes on without capture"):
        assert same(run(loss_fn=counts), whole)


def test_hooks_of_the_optimizer_are_called_at_each_step() -> None:
    bt.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = bt.optim.SGD(model.parameters(), lr=0.1)
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    batches = [(bt.ones(1, 2), bt.ones(1, 1))]
    fit(model, mse, batches, optimizer, steps=7, progress=False)
    assert len(calls) == 7


def test_views_of_one_tensor_are_replayed() -> None:
    """The usual list of batches: pieces of the data, which all lie in one memory."""
    x = bt.rand(32, 2)
    batches = [(x[i : i + 4], x[i : i + 4].sum(1, keepdim=True)) for i in range(0, 32, 4)]
    runs: list[int] = []

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return mse(model, batch) + 0 * note()

    class Note:
        def __call__(self) -> int:
            return 0

        def _watched(self) -> list[object]:
            runs.append(1)  # looked into when a call is captured
            return []

    note = Note()
    model = nn.Linear(2, 1)
    optimizer = bt.optim.SGD(model.parameters(), lr=0.1)
    fit(model, loss_fn, batches, optimizer, steps=40, progress=False)
    assert 0 < len(runs) <= 6
