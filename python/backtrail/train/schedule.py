"""What `fit` asks of a learning-rate schedule."""

from __future__ import annotations

from typing import Any, Protocol


class Scheduler(Protocol):
    """What `fit` asks of a learning-rate schedule: any class of `optim.lr_scheduler` will do."""

    def step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
