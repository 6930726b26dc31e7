"""Random programs of views, changes in place and backward passes, against PyTorch."""

from __future__ import annotations

import random
import warnings
from typing import Any

import backtrail as bt
import pytest

VIEWS = [
    lambda x, r: x[r % x.shape[0]],
    lambda x, r: x[r % x.shape[0] :],
    lambda x, r: x[: 1 + r % x.shape[0]],
    lambda x, r: x[:: 1 + r % 2],
    lambda x, r: x[..., r % x.shape[-1]],
    lambda x, r: x[..., None, r % x.shape[-1] :],
    lambda x, r: x.transpose(0, -1),
    lambda x, r: x.permute(*range(x.ndim)[::-1]) if x.ndim else x,
    lambda x, r: x.view(-1),
    lambda x, r: x.reshape(-1),
    lambda x, r: x.unsqueeze(r % (x.ndim + 1)),
    lambda x, r: x.squeeze(),
    lambda x, r: x.diagonal(r % 2) if x.ndim > 1 else x,
    lambda x, r: x.unfold(0, 2, 2) if x.shape[0] > 1 else x,
    lambda x, r: x.narrow(-1, 0, 1 + r % x.shape[-1]),
    lambda x, r: x.mT if x.ndim > 1 else x,
    lambda x, r: x.flatten(),
    lambda x, r: x.as_strided((2, 2), (2, 1), x.storage_offset()),
    lambda x, r: x.split(1)[r % x.shape[0]],
    lambda x, r: x.chunk(2, -1)[0],
    lambda x, r: x.unbind(0)[0],
    lambda x, r: x.detach(),
    lambda x, r: x.data,
    lambda x, r: x[:],
]
CHANGES = [
    lambda x, y, r: x.mul_(2),
    lambda x, y, r: x.mul_(y.reshape(-1)[0] * 1),
    lambda x, y, r: x.add_(y.sum()),
    lambda x, y, r: x.zero_(),
    lambda x, y, r: x.fill_(y.mean()),
    lambda x, y, r: x.copy_(y.sum().expand(x.shape)),
    lambda x, y, r: x.sin_(),
    lambda x, y, r: x.exp_(),
    lambda x, y, r: x.neg_(),
    lambda x, y, r: x.sub_(x),
    lambda x, y, r: x.clamp_(max=0.5),
    lambda x, y, r: x.__setitem__(r % x.shape[0], y.sum()),
    lambda x, y, r: x.__setitem__(slice(None), 3.0),
    lambda x, y, r: x.__setitem__(x > 0.3, 0.25),
    lambda x, y, r: x.__setitem__(x > 0.3, y.mean()),
    lambda x, y, r: x.__setitem__(..., y.sum() * 0.5),
    lambda x, y, r: x.__iadd__(y.sum()),
    lambda x, y, r: x.tanh_(),
]
USES = [
    lambda x, y: x * y.mean(),
    lambda x, y: x.sin(),
    lambda x, y: x + 1,
    lambda x, y: x * x,
    lambda x, y: x.clone(),
    lambda x, y: x.sum().reshape(1, 1) + y.sum(),
]


# PyTorch refuses to read what an op is about to overwrite, unless it is just that; here it is read
# first, and kept where the derivative needs it. And it takes a view of a buffer that came to
# require gradients through its base for a leaf. (No such leaf is in these programs.)
STRICTER = (
    "refer to a single memory location",
    "modified by an inplace operation",
    "a leaf Variable that requires grad",
)


class Run:
    """One program in one library; what it found, or how it ended."""

    def __init__(self, lib: Any, seed: int) -> None:
        self.lib, self.seed = lib, seed
        self.program: list[str] = []

    def __call__(self) -> list[Any]:
        lib, dice = self.lib, random.Random(self.seed)
        shape = dice.choice([(4,), (2, 3), (3, 2, 2), (1, 4)])
        n = 1
        for size in shape:
            n *= size
        leaves = [
            lib.tensor([dice.uniform(-1, 1) for _ in range(n)], dtype=lib.float64)
            .reshape(shape)
            .detach()
            .requires_grad_(k < 2)
            for k in range(3)
        ]
        known = [leaves[0] * 1.5, leaves[1] * 1, leaves[2], leaves[2].clone()]
        log: list[Any] = []
        for _ in range(dice.randint(3, 9)):
            step, i, j = dice.random(), dice.randrange(len(known)), dice.randrange(len(known))
            r, a, b, c = dice.randrange(6), dice.choice(VIEWS), dice.choice(CHANGES), dice.random()
            use = dice.choice(USES)
            x, y = known[i], known[j]
            name = "view" if step < 0.4 else "change" if step < 0.75 else "use"
            number = {"view": VIEWS.index(a), "change": CHANGES.index(b), "use": USES.index(use)}
            quiet = " without gradients" if c < 0.08 else ""
            self.program.append(f"{name} {number[name]} of {i} with {j}, {r}{quiet}")
            try:
                if step < 0.4:
                    known.append(a(x, r))
                elif step < 0.75:
                    if c < 0.08:
                        with lib.no_grad():
                            b(x, y, r)
                    else:
                        b(x, y, r)
                else:
                    known.append(use(x, y))
            except (RuntimeError, IndexError, ValueError) as error:
                log.append(type(error).__name__)
                self.program.append(str(error))
                return log
        try:
            for t in known:
                log.append((t.detach().tolist(), t.requires_grad, t.is_leaf, t._base is not None))
            loss = sum((k + 1) * t.sum() for k, t in enumerate(known) if t.requires_grad)
            twice = dice.random() < 0.3
            if twice:
                first = lib.autograd.grad(loss, leaves[:2], create_graph=True, allow_unused=True)
                loss = sum((g * g).sum() for g in first if g is not None)
            if loss.requires_grad:
                loss.backward()
        except RuntimeError as error:
            self.program.append(str(error))
            log.append("it cannot be used or differentiated")
            return log
        # A second derivative that is 0 may be None.
        grads = [t.grad for t in leaves]
        if twice:
            grads = [0 * t.detach() if g is None else g for t, g in zip(leaves, grads, strict=True)]
        log.append([None if g is None else g.tolist() for g in grads])
        return log


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-9, abs=1e-9, nan_ok=True)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_close(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.peer
@pytest.mark.parametrize("block", range(20))
def test_programs_of_views_and_changes(block: int) -> None:
    torch = pytest.importorskip("torch")
    for seed in range(block * 100, block * 100 + 100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, theirs = Run(bt, seed), Run(torch, seed)
            found, expected = ours(), theirs()
        if any(text in theirs.program[-1] for text in STRICTER):
            continue
        text = "\n".join((f"program {seed}:", *ours.program, *theirs.program[-1:]))
        assert _close(found, expected), f"{text}\n{found}\n{expected}"
