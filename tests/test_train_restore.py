"""What a checkpoint must be like for a run to go on from it: any other is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrail as bt
import pytest
from backtrail import Tensor, nn
from backtrail.serialization import CheckpointError
from backtrail.train import EarlyStopping, fit

OPTIMIZERS: list[Callable[[Any], bt.optim.Optimizer]] = [
    lambda p: bt.optim.Adam(p, lr=0.1),
    lambda p: bt.optim.Adam(p, lr=0.1, amsgrad=True),
    lambda p: bt.optim.AdamW(p, lr=0.1),
    lambda p: bt.optim.SGD(p, lr=0.1),
    lambda p: bt.optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: bt.optim.RMSprop(p, lr=0.1, centered=True, momentum=0.5),
    lambda p: bt.optim.Adagrad(p, lr=0.1),
    lambda p: bt.optim.Adadelta(p, lr=0.1),
]


def train(path: Path, steps: int, resume: bool, make: Any = OPTIMIZERS[0]) -> list[Any]:
    bt.manual_seed(1)
    model = nn.Linear(3, 2)

    def loss_fn(model: nn.Module, x: Tensor) -> Tensor:
        return model(x).square().mean()

    optimizer = make(model.parameters())
    fit(
        model,
        loss_fn,
        [bt.ones(4, 3), bt.zeros(4, 3)],
        optimizer,
        steps=steps,
        scheduler=bt.optim.lr_scheduler.StepLR(optimizer, 2),
        evaluate=lambda model: loss_fn(model, bt.ones(1, 3)).item(),
        evaluate_every=2,
        callbacks=[EarlyStopping(patience=99)],
        checkpoint=path,
        resume=resume,
        progress=False,
    )
    return [p.tolist() for p in model.parameters()]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_every_optimizer_goes_on(tmp_path: Path, make: Any) -> None:
    train(tmp_path / "a", 3, False, make)
    assert train(tmp_path / "a", 6, True, make) == train(tmp_path / "b", 6, False, make)


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts a value at a path of keys; `...` takes it away."""

    def change(state: dict[str, Any]) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        node: Any = state
        for key in way:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value

    return change


CHANGES = [
    ("optimizer/state/0/exp_avg", ...),
    ("optimizer/state/0/step", ...),
    ("optimizer/state/0/more", 1),
    ("optimizer/state/0/exp_avg", bt.ones(7)),
    ("optimizer/state/0/exp_avg_sq", "text"),
    ("optimizer/state/0/step", -1),
    ("optimizer/state/0/step", math.nan),
    ("optimizer/state/0/step", math.inf),
    ("optimizer/state/0/step", "3"),
    ("optimizer/state/7", {}),
    ("optimizer/state/0", 3),
    ("optimizer/param_groups/0/lr", "fast"),
    ("optimizer/param_groups/0/lr", bt.ones(5)),
    ("optimizer/param_groups/0/betas", 3),
    ("optimizer/param_groups/0/betas", (0.1, 0.2, 0.3)),
    ("optimizer/param_groups/0/eps", ...),
    ("optimizer/param_groups", []),
    ("optimizer", ...),
    ("scheduler/step_size", ...),
    ("scheduler/step_size", "x"),
    ("scheduler/get_lr", 3),
    ("scheduler", None),
    ("losses", None),
    ("losses", bt.ones(3, 3)),
    ("losses", bt.arange(3)),
    ("evaluations", [1]),
    ("evaluations", [("a", 1.0)]),
    ("evaluations", [(1, "a")]),
    ("seconds", math.inf),
    ("seconds", "x"),
    ("tokens", -1),
    ("tokens", 1.5),
    ("batches/index", 10**12),
    ("batches/index", "x"),
    ("batches/passes", -1),
    ("batches", None),
    ("random_state", bt.ones(1)),
    ("random_state", "x"),
    ("epochs", 3),
    ("model", None),
    ("callbacks", 3),
    ("callbacks", [3]),
]


@pytest.mark.parametrize(("where", "value"), CHANGES, ids=lambda x: repr(x)[:40])
def test_odd_states_are_refused(tmp_path: Path, where: str, value: Any) -> None:
    path = tmp_path / "run.safetensors"
    train(path, 3, False)
    state = bt.load(path)
    put(where, value)(state)
    bt.save(state, path)
    with pytest.raises(CheckpointError, match="fit: cannot resume from"):
        train(path, 6, True)
