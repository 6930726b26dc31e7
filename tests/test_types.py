"""What is public, and that pyright takes programs that use it as it is by default."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import backtrail as bt
import pytest
from backtrail.examples import gpt
from test_readme import BLOCKS

HELPERS = {"TYPE_CHECKING", "Any", "annotations", "builtins", "import_module"}  # of the file itself
USER = """
import backtrail as torch

x = torch.randn(8, 2, requires_grad=True)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x.detach()), batch_size=4)
model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


class Watch(torch.train.Callback):
    def on_step(self, run: torch.train.Run) -> None:
        if run.history.mean_loss(5) < 0.1:
            run.stop("good enough")


history = torch.train.fit(
    model,
    lambda model, batch: model(batch[0]).square().mean(),
    loader,
    torch.optim.SGD(model.parameters(), lr=0.1),
    epochs=3,
    evaluate=lambda model: {"loss": model(x).square().mean()},
    callbacks=[Watch(), torch.train.EarlyStopping(3, monitor="loss")],
    progress=False,
)
losses: list[float] = history.losses
smaller: torch.Tensor = (x < 0.5) | (x != 1)
print(smaller.sum().item(), torch.abs(x).max(), torch.get_num_threads(), torch.float32)
"""
WRONG = ["torch.no_such_function", "x.no_such_method()", "history.no_such_attribute"]


def public_by_the_files() -> list[str]:
    """What a type checker reads: the list in the package's file, and those that are added to it."""
    tree = ast.parse(Path(bt.__file__).read_text("utf-8"))
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names += ast.literal_eval(node.value)
        elif isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "__all__":
            family = ast.unparse(node.value).removeprefix("_").removesuffix(".__all__")
            names += import_module(f"backtrail.functions.{family}").__all__
    return names


def test_every_public_name_is_listed_once() -> None:
    """In another process: this one may have loaded ops of a user's library."""
    names = public_by_the_files()
    missing = [name for name in names if not hasattr(bt, name)]
    assert missing == []
    code = "import backtrail; print(*dir(backtrail), *vars(backtrail))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = {name for name in done.stdout.split() if not name.startswith("_")}
    modules = {p.stem for p in Path(bt.__file__).parent.iterdir()}  # loaded, and not for users
    assert said - modules - HELPERS - set(names) == set()
    assert len(names) > 300


def test_star_hides_nothing_of_pythons() -> None:
    space: dict[str, object] = {}
    exec("from backtrail import *", space)
    assert {"exp", "nn", "tensor", "Tensor"} <= space.keys()
    assert space.keys().isdisjoint({"abs", "sum", "float", "bool", "all", "max"})


def test_submodules_are_there_after_a_plain_import() -> None:
    code = (
        "import backtrail as torch; torch.utils.data.DataLoader; torch.examples.gpt.GPT;"
        "torch.nn.functional.relu; torch.optim.lr_scheduler.StepLR; torch.autograd.functional"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match=r"'backtrail\.utils' has no attribute 'nothing'"):
        bt.utils.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"'backtrail\.examples' has no attribute 'nothing'"):
        bt.examples.nothing  # noqa: B018


@pytest.mark.slow
def test_pyright_takes_programs_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    programs = {"user": USER, "readme": "\n".join(BLOCKS), "gpt": Path(gpt.__file__).read_text()}
    programs["names"] = "import backtrail\n" + "\n".join(
        f"print(backtrail.{name})" for name in public_by_the_files()
    )
    programs["wrong"] = USER + "\n".join(WRONG) + "\n"
    for name, text in programs.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    env = dict(os.environ)
    if "site-packages" not in Path(bt.__file__).parts:  # an editable installation
        env["PYTHONPATH"] = str(Path(bt.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, tmp_path],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
    )
    errors = re.findall(r"(\w+)\.py:(\d+):\d+ - error", done.stdout)
    first = USER.count("\n") + 1
    expected = [("wrong", str(first + i)) for i in range(len(WRONG))]
    assert errors == expected, done.stdout + done.stderr
