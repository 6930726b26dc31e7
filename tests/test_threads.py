"""The same bytes on any number of threads and on AVX2 as on AVX-512; forks, interrupts, the GIL."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import backtrail as bt
import pytest
from backtrail._core import build_info, foreign_info, ops, pointwise_info
from backtrail.nn import functional as F
from backtrail.tensor import apply

ISA = build_info()["isa"]
AVAILABLE = build_info()["available"].split()
ALIKE = [isa for isa in AVAILABLE if isa in ("v3", "v4")]


def digest(*tensors: bt.Tensor) -> str:
    h = hashlib.sha256()
    for t in tensors:
        h.update(bt._core.to_bytes(t.detach()))
    return h.hexdigest()


def with_gradients(function: Any, *leaves: bt.Tensor) -> str:
    xs = [x.detach().requires_grad_() for x in leaves]
    y = function(*xs)
    y.backward(bt.ones_like(y) * 0.5)
    return digest(y, *[x.grad for x in xs])


# (m, n, k): ordinary, thin, a dot product, deep with a small result, wide, of odd lengths.
PRODUCTS = [
    (8, 9, 10),
    (65, 65, 65),
    (31, 33, 1),
    (1, 300, 700),
    (3, 70, 129),
    (700, 2, 600),
    (500, 4, 130),
    (1, 1, 5000),
    (2, 5, 3001),
    (10, 130, 5003),
    (40, 40, 6000),
    (5, 1, 9001),
    (150, 210, 521),
]


def layouts(x: bt.Tensor) -> list[bt.Tensor]:
    """The same matrix with contiguous rows, with contiguous columns, and with neither."""
    spread = bt.zeros(x.shape[0] * 2, x.shape[1] * 3, dtype=x.dtype)
    spread[::2, ::3] = x
    return [x, x.T.contiguous().T, spread[::2, ::3]]


def recurrent(name: str, gates: int, *states: tuple[int, ...]) -> str:
    """One direction of a layer of 96 over 7 steps, the batch as in `states`."""
    rows, h = states[0]
    shapes = (7, rows, 30), (gates * h, 30), (gates * h, h), (gates * h,), *states
    inputs = [bt.randn(*s) * 0.2 for s in shapes]
    return with_gradients(lambda *xs: apply(ops[name], xs, (False,))[0], *inputs)


def everything() -> dict[str, str]:
    """Digests of results large enough to be cut into tasks, and of their gradients."""
    bt.manual_seed(11)
    x, y = bt.randn(300, 401), bt.randn(401, 257)
    d = bt.randn(130, 70, dtype=bt.float64)
    found = {
        "matmul": with_gradients(bt.matmul, x, y),
        "matmul64": with_gradients(lambda a: a @ a.mT, d),
        "batched": with_gradients(bt.matmul, bt.randn(6, 40, 30), bt.randn(6, 30, 50)),
        "linear": with_gradients(F.linear, x, bt.randn(64, 401), bt.randn(64)),
        "softmax": with_gradients(lambda a: F.softmax(a, -1), x),
        "log_softmax": with_gradients(lambda a: F.log_softmax(a, -1), x),
        "layer_norm": with_gradients(
            lambda a, w, b: F.layer_norm(a, (401,), w, b), x, bt.rand(401), bt.rand(401)
        ),
        "rms_norm": with_gradients(lambda a, w: F.rms_norm(a, (401,), w), x, bt.rand(401)),
        "cross_entropy": with_gradients(
            lambda a: F.cross_entropy(a, bt.arange(300), label_smoothing=0.1), x
        ),
        "linear_cross_entropy": with_gradients(
            lambda a, w, b: F.linear_cross_entropy(a, w, bt.arange(300), linear_bias=b),
            *(x, bt.randn(701, 401), bt.randn(701)),
        ),
        "attention": with_gradients(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            *(bt.randn(4, 6, 70, 16) for _ in range(3)),
        ),
        "conv2d": with_gradients(
            lambda a, w, b: F.conv2d(a, w, b, padding=1),
            bt.randn(9, 5, 30, 31),
            bt.randn(20, 5, 3, 3),
            bt.randn(20),
        ),
        "conv2d of one image": with_gradients(
            lambda a, w: F.conv2d(a, w, stride=2, dilation=2),
            bt.randn(1, 40, 60, 41),
            bt.randn(30, 40, 3, 3),
        ),
        "depthwise": with_gradients(
            lambda a, w: F.conv2d(a, w, padding=1, groups=12),
            bt.randn(8, 12, 33, 30),
            bt.randn(24, 1, 3, 3),
        ),
        "conv1d": with_gradients(F.conv1d, bt.randn(2, 8, 5000), bt.randn(16, 8, 9)),
        "conv_transpose2d": with_gradients(
            lambda a, w, b: F.conv_transpose2d(a, w, b, 2, 1),
            bt.randn(5, 20, 19, 17),
            bt.randn(20, 12, 4, 4),
            bt.randn(12),
        ),
        "max_pool2d": with_gradients(lambda a: F.max_pool2d(a, 2), bt.randn(8, 9, 41, 40)),
        "avg_pool2d": with_gradients(lambda a: F.avg_pool2d(a, 3, 2, 1), bt.randn(8, 9, 41, 40)),
        "embedding": with_gradients(
            lambda w: F.embedding(bt.arange(3000).reshape(100, 30) % 50, w), bt.randn(50, 64)
        ),
        "rnn": recurrent("rnn", 1, (96, 96)),
        "lstm": recurrent("lstm", 4, (24, 96), (24, 96)),
        "gru": recurrent("gru", 3, (24, 96), (288,)),
        "sort": digest(*bt.randn(50, 3000).sort(1)),
        "cumsum": digest(x.cumsum(0), x.cumsum(1)),
        "index_add": digest(bt.zeros(10, 401).index_add(0, bt.arange(300) % 10, x)),
        "clip": digest(bt._core.clip_grad_norm([x.clone(), y.clone()], 1.0, 2.0)),
        "random": digest(bt.randn(70_001), bt.rand(70_001), bt.randperm(9999)),
    }
    for dtype in (bt.float32, bt.float64, bt.bfloat16):
        for m, n, k in PRODUCTS:
            a, b = bt.randn(m, k).to(dtype), bt.randn(k, n).to(dtype)
            found[f"product {m} {n} {k} {dtype}"] = digest(a @ b)
    for name in ("sum", "mean", "prod", "amax", "argmax"):
        for dim in (0, 1):
            found[f"{name}{dim}"] = digest(getattr(x, name)(dim=dim))
    found["sums"] = digest(x.sum(), x.mean(), x.std(), x.norm(), bt.randn(1_000_003).sum())
    for name, op in ops.items():
        builtin = foreign_info(op) is None  # other tests add ops that are wrong on purpose
        info = pointwise_info(op) if op.kind == "pointwise" and builtin else None
        if info and info["floats"] and not any(info["mask_inputs"]):
            low, high = info["range"]
            inputs = [bt.rand(40_007) * (high - low) + low for _ in info["mask_inputs"]]
            call = (lambda *xs, op=op: apply(op, xs)) if op.differentiable else None
            found[name] = (
                with_gradients(call, *inputs) if call else digest(apply(op, tuple(inputs)))
            )
    return found


def train() -> str:
    """Twenty steps of a small network with AdamW: weights and losses."""
    bt.manual_seed(5)
    model = bt.nn.Sequential(bt.nn.Linear(64, 128), bt.nn.GELU(), bt.nn.Linear(128, 10))
    optimizer = bt.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        x = bt.randn(96, 64)
        loss = F.cross_entropy(model(x), (x[:, 0] > 0).long() * 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return digest(*losses, *model.parameters())


def all_digests() -> dict[str, str]:
    return {**everything(), "train": train()}


def run_with(isa: str) -> dict[str, str]:
    code = "import json, test_threads as t; print(json.dumps([t.ISA, t.all_digests()]))"
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "BACKTRAIL_ISA": isa, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    used, found = json.loads(done.stdout)
    assert used == isa
    return dict(found)


def different(a: dict[str, str], b: dict[str, str]) -> list[str]:
    return [name for name in a if a[name] != b[name]]


def test_same_bytes_on_any_number_of_threads() -> None:
    bt.set_num_threads(1)
    one = all_digests()
    for threads in (2, 3, 8):
        bt.set_num_threads(threads)
        assert bt.get_num_threads() == threads
        assert different(one, all_digests()) == []


@pytest.mark.parametrize("isa", [isa for isa in ALIKE if isa != ISA])
def test_same_bytes_on_avx2_and_avx512(isa: str) -> None:
    if ISA not in ALIKE:
        pytest.skip("this process runs without AVX2")
    assert different(run_with(isa), all_digests()) == []  # here may be ops of a user's besides


@pytest.mark.parametrize("isa", [isa for isa in AVAILABLE if isa not in ALIKE])
def test_older_instruction_sets_work(isa: str) -> None:
    assert set(run_with(isa)) <= set(all_digests())


def test_an_unknown_instruction_set_is_an_import_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import backtrail"],
        env={**os.environ, "BACKTRAIL_ISA": "v9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "v9" in done.stderr


def test_number_of_threads_is_checked() -> None:
    for wrong in (0, -1):
        with pytest.raises((ValueError, RuntimeError), match="thread"):
            bt.set_num_threads(wrong)
    code = "import backtrail as bt; print(bt.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "3"


@pytest.mark.parametrize(("m", "n", "k"), PRODUCTS)
def test_products_do_not_depend_on_strides(m: int, n: int, k: int) -> None:
    for dtype in (bt.float32, bt.float64):
        a, b = bt.randn(m, k, dtype=dtype), bt.randn(k, n, dtype=dtype)
        want, twice = a @ b, bt.stack([a, a]) @ b
        exact = a.double().numpy() @ b.double().numpy()
        scale = 1e-5 if dtype == bt.float32 else 1e-12
        assert abs(want.double().numpy() - exact).max() < scale * k**0.5 * 10
        for x in layouts(a):
            for y in layouts(b):
                assert digest(x @ y) == digest(want)
                assert digest(bt.stack([x.T, x.T]).mT @ y) == digest(twice)
                assert digest((y.T @ x.T).T.contiguous()) == digest(want)
    a, b = (bt.randint(-(2**40), 2**40, shape) for shape in ((m, k), (k, n)))
    whole = a.numpy() @ b.numpy()  # both wrap
    for x in layouts(a):
        for y in layouts(b):
            assert ((x @ y).numpy() == whole).all()


# ---- forks


def work() -> float:
    x = bt.ones(400, 400, requires_grad=True)
    (x @ x).sum().backward()
    return float(x.grad.sum().item())


def child(queue: Any) -> None:
    queue.put(work())


def test_a_forked_child_computes() -> None:
    bt.set_num_threads(2)
    want = work()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if work() == want else 3)
    deadline = time.monotonic() + 20
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(status) == 0
    assert work() == want


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str) -> None:
    want = work()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    assert queue.get(timeout=30) == want
    process.join(10)
    assert process.exitcode == 0


# ---- interrupts and the GIL

LONG = """
import time, backtrail as bt
bt.set_num_threads({threads})
x = bt.ones(3000, 3000)
print("ready", flush=True)
try:
    {work}
except KeyboardInterrupt:
    assert (bt.ones(2) + 1).tolist() == [2, 2]
    print("stopped", time.process_time(), flush=True)
"""


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "work",
    [
        "x = bt.ones(8000, 8000); [x @ x for _ in range(100)]",
        "[x.exp() for _ in range(10**6)]",
        "[bt.sort(bt.rand(3000, 3000)) for _ in range(10**5)]",
    ],
    ids=["matmul", "pointwise", "sort"],
)
def test_ctrl_c_stops_within_a_second(work: str, threads: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LONG.format(threads=threads, work=work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.4)
        start, used = time.monotonic(), cpu_seconds(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        took = time.monotonic() - start
    finally:
        process.kill()
    word, total = out.split()
    assert word == "stopped", err
    # A second; on a machine busy with other work, a second's worth of computing.
    assert took < 1.0 or float(total) - used < threads


def test_the_gil_is_released() -> None:
    """Another Python thread makes progress while a product is computed."""
    bt.set_num_threads(1)
    x = bt.ones(1500, 1500)
    counts: list[int] = []
    done = threading.Event()

    def count() -> None:
        n = 0
        while not done.is_set():
            n += 1
            time.sleep(0.001)
        counts.append(n)

    thread = threading.Thread(target=count)
    thread.start()
    start = time.monotonic()
    while time.monotonic() - start < 0.3:
        x @ x
    done.set()
    thread.join()
    assert counts[0] > 20


def test_many_python_threads_at_once() -> None:
    bt.set_num_threads(2)
    want = work()
    wrong: list[Any] = []

    def loop() -> None:
        for _ in range(4):
            if work() != want:
                wrong.append("different")

    threads = [threading.Thread(target=loop) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_more_threads_than_cores_are_not_waited_for() -> None:
    """More threads than there are cores: those that wait for one are not waited for."""
    bt.set_num_threads(8)
    x = bt.randn(256, 256)
    expected = x @ x
    for _ in range(50):
        assert bool(((x @ x) == expected).all())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_the_affinity_of_helpers_stays_what_it_was() -> None:
    """Helpers that wake are kept off the caller's processor for a moment, within their own set."""
    code = """
import os, time, backtrail as bt
bt.set_num_threads(3)
x = bt.randn(400, 400)
x @ x
def sets():
    return [os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task")]
allowed = os.sched_getaffinity(0)
for _ in range(20):
    time.sleep(0.01)
    x @ x
time.sleep(0.1)
assert all(s <= allowed for s in sets()), sets()
one = {min(allowed)}
for t in os.listdir("/proc/self/task"):
    os.sched_setaffinity(int(t), one)
for _ in range(20):
    time.sleep(0.01)
    x @ x
time.sleep(0.1)
assert all(s == one for s in sets()), sets()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
