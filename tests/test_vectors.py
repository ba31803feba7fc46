"""Eight floats at once against NumPy, which does the same one by one."""

import numpy as np
import pytest
import torch
from numba.core.errors import TypingError

from stavatar.jit import kernel
from stavatar.vectors import (
    LANES,
    add_up,
    add_up_each,
    choose,
    fma,
    least,
    load,
    nearest,
    size,
    spread,
    steps,
    store,
)

A = np.array([1.5, -2.0, 0.0, 3.25, -0.5, 2.5, 1e-3, -7.0], np.float32)
B = np.array([-1.5, 4.0, 0.0, 3.25, 2.0, 0.1, -1e3, 7.0], np.float32)
_f = np.float32


@kernel()
def arithmetic(a, b, out):  # type: ignore[no-untyped-def]
    x, y = load(a, 0), load(b, 0)
    store(out, 0 * LANES, x + y)
    store(out, 1 * LANES, x - y)
    store(out, 2 * LANES, x * y)
    store(out, 3 * LANES, x / (y * y + _f(1)))
    store(out, 4 * LANES, fma(x, y, _f(0.5)))
    store(out, 5 * LANES, 2 - x)
    store(out, 6 * LANES, -size(x) + steps())
    store(out, 7 * LANES, least(x, y))
    store(out, 8 * LANES, nearest(x) * spread(3))
    total = spread(1)
    total += x
    total *= y
    total -= _f(2)
    store(out, 9 * LANES, total)


def test_arithmetic_is_that_of_each_lane() -> None:
    out = np.zeros(10 * LANES, np.float32)
    arithmetic(A, B, out)
    true = [
        A + B, A - B, A * B, A / (B * B + _f(1)), A * B + _f(0.5), 2 - A, np.arange(8) - abs(A), np.minimum(A, B),
        3 * np.rint(A), (1 + A) * B - 2,
    ]  # fmt: skip
    np.testing.assert_allclose(out.reshape(10, LANES), true, rtol=2e-7, atol=1e-7)


@kernel()
def choices(a, b, out):  # type: ignore[no-untyped-def]
    x, y = load(a, 0), load(b, 0)
    store(out, 0 * LANES, choose(x < y, x, _f(9)))
    store(out, 1 * LANES, choose(x <= y, _f(9), y))
    store(out, 2 * LANES, choose(x > y, x, y))
    store(out, 3 * LANES, choose((x >= y) & (x > _f(0)), spread(1), _f(0)))


def test_choices_are_made_in_each_lane_and_none_for_what_is_no_number() -> None:
    a, out = A.copy(), np.zeros(4 * LANES, np.float32)
    a[1] = np.nan
    choices(a, B, out)
    with np.errstate(invalid="ignore"):
        true = [np.where(a < B, a, 9), np.where(a <= B, 9, B), np.where(a > B, a, B), (a >= B) & (a > 0)]
    np.testing.assert_array_equal(out.reshape(4, LANES), np.array(true, np.float32))


@kernel()
def sums(table, out):  # type: ignore[no-untyped-def]
    a, b, c, d = load(table, 0), load(table, 8), load(table, 16), load(table, 24)
    e, f, g, h = load(table, 32), load(table, 40), load(table, 48), load(table, 56)
    store(out, 0, add_up_each(a, b, c, d, e, f, g, h))
    out[8] = add_up(c)


def test_sums_are_over_the_lanes_of_each_vector() -> None:
    table, out = np.arange(64, dtype=np.float32) ** 2, np.zeros(9, np.float32)
    sums(table, out)
    np.testing.assert_array_equal(out[:8], table.reshape(8, 8).sum(1))
    assert out[8] == table[16:24].sum()


@kernel()
def copy(source, target):  # type: ignore[no-untyped-def]
    store(target, 0, load(source, 0))


def test_bfloat16_is_read_and_rounded_as_torch_does() -> None:
    # ties to the even neighbour both ways, what rounds up into the next power, infinity, tiny and no numbers
    given = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1.999, 3e38, torch.inf, 1e-40, -torch.nan, 0.1])
    rounded = np.zeros(LANES, np.uint16)
    copy(given.numpy(), rounded)
    true = given.to(torch.bfloat16)
    result = torch.from_numpy(rounded).view(torch.bfloat16)
    assert torch.equal(result.isnan(), true.isnan())
    assert torch.equal(result.nan_to_num(), true.nan_to_num())
    back = np.zeros(LANES, np.float32)
    copy(rounded, back)
    np.testing.assert_array_equal(back, true.float().numpy())


@pytest.mark.parametrize("array", [np.zeros(8), np.zeros((2, 8), np.float32), np.zeros(16, np.float32)[::2]])
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(TypingError):
        copy(array, np.zeros(LANES, np.float32))
