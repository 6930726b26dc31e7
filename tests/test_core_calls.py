"""What the functions of the C++ module say to wrong arguments: never a C++ signature."""

import types

import backtrail as bt
import pytest
from backtrail import _core

F32 = bt.float32
FUNCTIONS = sorted(
    name
    for name, value in vars(_core).items()
    if isinstance(value, types.BuiltinFunctionType) and not name.startswith("_")
)


class Wrong:
    """No number, no tensor, no sequence, and neither true nor false."""

    def __bool__(self) -> bool:
        raise TypeError("Wrong is neither true nor false")


def _said(name: str, *args: object) -> str:
    with pytest.raises(TypeError) as caught:
        getattr(_core, name)(*args)
    return str(caught.value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_type_errors_in_plain_words(name: str) -> None:
    texts = [_said(name, *[Wrong()] * 20)]
    for count in range(7):
        try:
            getattr(_core, name)(*[Wrong()] * count)
        except TypeError as e:
            texts.append(str(e))
        else:
            assert count == 0  # at most: a function without arguments
    for text in texts:
        assert text
        for word in ("incompatible", "Invoked with", "std::", "backtrail::", "arg0"):
            assert word not in text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: _core.full((2, "a"), 1, bt.float32),
            r"full: size\[1\] must be an int .* got str",
        ),
        (
            lambda: _core.full("ab", 1, bt.float32),
            "full: size must be a sequence of ints; got str",
        ),
        (
            lambda: _core.full((2.0,), 1, bt.float32),
            r"full: size\[0\] must be an int .* got float",
        ),
        (
            lambda: _core.full((2**70,), 1, bt.float32),
            r"full: size\[0\] must be an int of 64 bits",
        ),
        (
            lambda: _core.empty((2,), "float32"),
            "empty: dtype must be a dtype .* got str",
        ),
        (lambda: _core.empty((2,)), "empty: got 1 arguments; expected 2"),
        (
            lambda: _core.linspace(0.0, "1", 3, bt.float32),
            "linspace: end must be a number; got str",
        ),
        (lambda: _core.item(3), "item: tensor must be a Tensor; got int"),
        (lambda: _core.from_bytes("x", bt.uint8, (1,)), "bytes-like object"),
        (lambda: bt.set_num_threads("two"), "set_num_threads: n must be an int .* got str"),
        (lambda: _core.clip_grad_norm([1.0], 1.0, 2.0), r"grads\[0\] must be a Tensor; got float"),
        (
            lambda: _core.setting({"lr": "fast"}, "lr"),
            "setting: the value must be a number",
        ),
        (lambda: _core.Guards(()), "expected a list"),
        (lambda: _core.Guards([("item", {}, 1)]), "entry 0 is no tuple of more than 3"),
        (lambda: _core.Recorder().adopt_draws(1), "adopt_draws: expected a Recorder; got int"),
    ],
)
def test_type_errors_name_the_argument(call: object, text: str) -> None:
    assert callable(call)
    with pytest.raises(TypeError, match=text):
        call()


def test_an_exception_of_the_caller_is_passed_on() -> None:
    class Broken:
        def __float__(self) -> float:
            raise ZeroDivisionError("of its own")

    class Empty:
        def __iter__(self) -> object:
            raise ZeroDivisionError("of its own")

    with pytest.raises(ZeroDivisionError, match="of its own"):
        _core.linspace(Broken(), 1.0, 2, bt.float32)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError, match="of its own"):
        _core.full(Empty(), 1, bt.float32)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="lr"):
        _core.setting({}, "lr")


def test_strided_memory_is_read_in_order() -> None:
    x = _core.from_bytes(memoryview(b"abcdef")[::2], bt.uint8, (3,))
    assert x.tolist() == [97, 99, 101]
