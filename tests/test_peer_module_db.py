"""PyTorch's own samples of its modules (`module_db`), on both: values, gradients, state, text.

Run with `-m peer`.
"""

from __future__ import annotations

from typing import Any

import backtrail as bt
import numpy as np
import pytest
from backtrail import nn

torch = pytest.importorskip("torch")
common_modules = pytest.importorskip("torch.testing._internal.common_modules")
pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

DTYPES = {"float32": (torch.float32, 2e-5), "float64": (torch.float64, 1e-9)}
INFOS = {
    info.module_cls.__name__: info
    for info in common_modules.module_db
    if info.module_cls.__module__.startswith("torch.nn.modules")
    and hasattr(nn, info.module_cls.__name__)
}
CASES = [
    (name, dtype, training) for name in INFOS for dtype in DTYPES for training in (True, False)
]

DRAWN = {"Dropout", "Dropout1d", "Dropout2d"}  # random: only the state and the text are compared


def convert(value: Any) -> Any:
    """Make ours of tensors, dtypes and devices, at any depth."""
    if isinstance(value, torch.Tensor):
        made = bt.from_numpy(value.detach().numpy().copy())
        return made.requires_grad_() if value.requires_grad else made
    if isinstance(value, torch.dtype):
        return getattr(bt, str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return "cpu"
    if isinstance(value, torch.nn.Module):
        return twin(value)
    if isinstance(value, (list, tuple)):
        return type(value)(convert(v) for v in value)
    if isinstance(value, dict):
        return {k: convert(v) for k, v in value.items()}
    return value


def leaves(value: Any) -> Any:
    """Detach tensors from what made them, at any depth."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(leaves(v) for v in value)
    return {k: leaves(v) for k, v in value.items()} if isinstance(value, dict) else value


def twin(module: Any) -> Any:
    return getattr(nn, type(module).__name__)()


def flat(value: Any) -> list[Any]:
    """The tensors in a result, in order."""
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in flat(v)]
    return [] if value is None else [value]


def gradients(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [v for v in flat(value) if hasattr(v, "requires_grad") and v.requires_grad]


def compare(got: Any, want: Any, tolerance: float, what: str) -> None:
    want = want.detach().numpy()
    assert tuple(got.shape) == want.shape, what
    assert str(got.dtype).split(".")[-1] == str(want.dtype), what
    scale = max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0)))
    np.testing.assert_allclose(
        got.detach().numpy(), want, rtol=tolerance, atol=tolerance * scale, err_msg=what
    )


def total(result: Any) -> Any:
    """A number that depends on every floating element of a result, each in its own way."""
    parts = [t for t in flat(result) if t.requires_grad]
    return sum((t * (1 + 0.1 * i) * t).sum() for i, t in enumerate(parts)) if parts else None


@pytest.mark.parametrize(("name", "dtype", "training"), CASES)
def test_module(name: str, dtype: str, training: bool) -> None:
    info = INFOS[name]
    kind, tolerance = DTYPES[dtype]
    torch.manual_seed(0)
    samples = info.module_inputs_func(
        info, device="cpu", dtype=kind, requires_grad=True, training=training
    )
    for number, sample in enumerate(samples):
        if sample.forward_input is None:
            continue
        made, called = sample.constructor_input, sample.forward_input
        if made.kwargs.get("dtype") is None and "dtype" in made.kwargs:
            made.kwargs.pop("dtype")
        what = f"{name}[{number}] {sample.desc} {made.args} {made.kwargs}"
        theirs = info.module_cls(*made.args, **made.kwargs).to(kind).train(training)
        ours = getattr(nn, name)(*convert(made.args), **convert(made.kwargs))
        ours.to(convert(kind)).train(training)
        assert repr(ours) == repr(theirs), what
        # State: theirs -> ours -> theirs.
        state = theirs.state_dict()
        ours.load_state_dict({k: convert(v) for k, v in state.items()})
        back = ours.state_dict()
        assert list(back) == list(state), what
        theirs.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in back.items()})
        assert {k: v["version"] for k, v in back._metadata.items()} == {
            k: v["version"] for k, v in state._metadata.items()
        }, what
        if name in DRAWN and training:
            continue
        their_args, their_kwargs = leaves(called.args), leaves(called.kwargs)
        args, kwargs = convert(their_args), convert(their_kwargs)
        want = theirs(*their_args, **their_kwargs)
        got = ours(*args, **kwargs)
        assert len(flat(got)) == len(flat(want)), what
        for a, b in zip(flat(got), flat(want), strict=True):
            compare(a, b, tolerance, what)
        loss, ours_loss = total(want), total(got)
        assert (loss is None) == (ours_loss is None), what
        if loss is not None:
            loss.backward()
            ours_loss.backward()
            inputs = zip(
                gradients([args, list(kwargs.values())]),
                gradients([their_args, list(their_kwargs.values())]),
                strict=True,
            )
            for mine, other in inputs:
                assert (mine.grad is None) == (other.grad is None), what
                if other.grad is not None:
                    compare(mine.grad, other.grad, 10 * tolerance, f"{what}: an input's gradient")
            for (key, mine), other in zip(
                ours.named_parameters(), theirs.parameters(), strict=True
            ):
                assert (mine.grad is None) == (other.grad is None), what
                if other.grad is not None:
                    compare(mine.grad, other.grad, 10 * tolerance, f"{what}: gradient of {key}")
        for (key, mine), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            compare(mine, other, tolerance, f"{what}: {key}")


@pytest.mark.parametrize("name", [n for n in INFOS if INFOS[n].module_error_inputs_func])
def test_errors(name: str) -> None:
    info = INFOS[name]
    for training in (True, False):
        for number, error in enumerate(
            info.module_error_inputs_func(
                info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
            )
        ):
            sample = error.module_error_input
            made, called = sample.constructor_input, sample.forward_input
            inputs = [] if called is None else [called.args, called.kwargs, made.kwargs]
            if any(getattr(t, "dtype", None) is torch.float16 for t in every(inputs)):
                continue  # there is no float16
            raised: type[Exception] | None = None
            try:
                module = getattr(nn, name)(*convert(made.args), **convert(made.kwargs))
                if called is not None:
                    module(*convert(called.args), **convert(called.kwargs))
            except Exception as problem:
                raised = type(problem)
            what = f"{name}[{number}] {made.args} {made.kwargs}"
            assert raised is not None, f"{what}: nothing was raised, but {error.error_type}"
            assert issubclass(raised, error.error_type), what


def every(values: Any) -> list[Any]:
    if isinstance(values, dict):
        values = list(values.values())
    return [t for v in values for t in every(v)] if isinstance(values, (list, tuple)) else [values]
