"""The training loop on captured steps: the same losses, and going on where that cannot be."""

from __future__ import annotations

import pytest
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

    with pytest.warns(UserWarning, match="fit: item at .*The run goes on without capture"):
        assert same(run(loss_fn=looks), whole)

    seen: list[int] = []

    def counts(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(len(seen))
        return mse(model, batch)

    with pytest.warns(UserWarning, match="changes `seen`.*The run goes on without capture"):
        assert same(run(loss_fn=counts), whole)
