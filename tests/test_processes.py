"""Threads, their end, and processes short of room: what must not crash, hang or mix things up."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import backtrail as bt
import backtrail.nn.functional as F
import pytest


def run(code: str, prefix: str = "") -> subprocess.CompletedProcess[str]:
    script = f"{prefix}exec {sys.executable} - <<'END'\n{textwrap.dedent(code)}\nEND\n"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)


def test_backward_through_one_compiled_function_from_many_threads() -> None:
    """Each thread gets the gradients of its own call, dropout included."""
    weight = bt.nn.Parameter(bt.randn(50, 50))
    f = bt.compile(lambda x: F.dropout(x * weight, 0.5).sum(0))
    wrong: list[object] = []

    def train() -> None:
        try:
            for _ in range(30):
                x = bt.ones(50, 50, requires_grad=True)
                y = f(x)
                # The same mask forward and backward: y is the sum of those that were kept.
                (grad,) = bt.autograd.grad(y.sum(), [x])
                if not bt.allclose(grad.sum(0), y.detach(), atol=1e-4):
                    wrong.append("another call's mask")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("work", ["bt.randn(300, 300).exp()", "f(x)", "x.exp().sum().backward()"])
def test_a_daemon_thread_that_computes_at_exit(work: str) -> None:
    done = run(
        f"""
        import threading, time
        import backtrail as bt
        x = bt.randn(300, 300, requires_grad=True)
        f = bt.compile(lambda x: (x @ x).exp().sum())
        def work():
            while True:
                {work}
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        print("end")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_subinterpreter_is_told_at_once() -> None:
    if sys.version_info >= (3, 13):
        code = "import _interpreters as i; print(i.run_string(i.create(), 'import backtrail'))"
    else:
        code = """
        import _xxsubinterpreters as i
        try:
            i.run_string(i.create(), "import backtrail")
        except Exception as error:
            print(error)
        """
    assert "cannot be imported in a subinterpreter" in run(code).stdout


@pytest.mark.parametrize(
    "limits", ["ulimit -v 600000; OMP_NUM_THREADS=64 ", "OMP_STACKSIZE=100g OMP_NUM_THREADS=4 "]
)
def test_threads_that_cannot_be_made_are_done_without(limits: str) -> None:
    done = run("import backtrail as bt; print(bt.ones(1000, 1000).exp().sum().item())", limits)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) == pytest.approx(2718281.8, rel=1e-5)


def test_the_number_of_threads_has_bounds() -> None:
    before = bt.get_num_threads()
    for n in (0, -1, 1025, 2**31 - 1, 2**40):
        with pytest.raises(ValueError, match=f"set_num_threads: got {n}; expected 1 to 1024"):
            bt.set_num_threads(n)
    assert bt.get_num_threads() == before
    assert (
        run("import backtrail as bt; print(bt.get_num_threads())", "OMP_NUM_THREADS=9999 ").stdout
        == "1024\n"
    )
