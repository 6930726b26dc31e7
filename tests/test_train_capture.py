"""The training loop on captured steps: the same losses, and going on where that cannot be."""

from __future__ import annotations

import pytest
import test_train as fit_is_called_in
from backtrail import Tensor, nn
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
