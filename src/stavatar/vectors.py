"""Eight floats at once in Numba kernels: what the processor's vector instructions do, written down as such.

Left to itself the compiler finds vector instructions in some loops and not in others, and a small change of a loop may
make it eight times as slow. A kernel that says what it wants gets it, keeps sums in registers, and compiles faster:

    total = spread(0)
    for i in range(0, count, 8):
        value = load(values, i)
        total = fma(value, choose(value > 0, value, 0), total)
    return add_up(total)

Vectors take part in ``+ - * /``, in :func:`fma`, and in the comparisons ``< <= > >=``, which give masks
for :func:`choose`; two masks are combined by ``&``. Plain numbers beside a vector count eight times. Eight floats are
one vector of every x86 processor with AVX; elsewhere the compiler takes two halves.

Cached kernels do not notice when this file changes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, models, register_model

LANES = 8

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_BITS, _HALVES = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(16), LANES)
_NAMES = {_FLOAT: "f32", ir.DoubleType(): "f64", _VECTOR: "v8f32"}


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__("vector of eight floats")


class _Mask(types.Type):
    def __init__(self) -> None:
        super().__init__("mask of eight")


vector, mask = _Vector(), _Mask()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _MASK)


def _spread_of(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The LLVM vector of an argument: itself, or a number eight times."""
    if isinstance(kind, _Vector):
        return value
    number = context.cast(builder, value, kind, types.float32)
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return _mixed(builder, first, first, [0] * LANES)


def _mixed(builder: Any, first: Any, second: Any, lanes: Sequence[int]) -> Any:
    """These lanes of two vectors laid end to end."""
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


def _called(builder: Any, name: str, kind: Any, values: Any) -> Any:
    """One of LLVM's functions of floats or vectors."""
    name = f"{name}.{_NAMES[kind]}"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(kind, [kind] * len(values)), name)
    return builder.call(function, values)


# ----------------------------------------------------------------------------------------------------------- operators


def _define(symbol: Any, result: types.Type, emit: Callable[[Any, Any, Any], Any]) -> None:
    """Two vectors, or a vector and a number, on the two sides of an operator."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            known = len(arguments) == 2 and all(isinstance(kind, _Vector | types.Number) for kind in arguments)
            return signature(result, *arguments) if known and vector in arguments else None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit(
            builder,
            *(_spread_of(context, builder, kind, value) for kind, value in zip(signature.args, values, strict=True)),
        )

    for left, right in (_Vector, _Vector), (_Vector, types.Number), (types.Number, _Vector):
        lower_builtin(symbol, left, right)(generate)


for _symbols, _emit in {
    (operator.add, operator.iadd): lambda builder, a, b: builder.fadd(a, b),
    (operator.sub, operator.isub): lambda builder, a, b: builder.fsub(a, b),
    (operator.mul, operator.imul): lambda builder, a, b: builder.fmul(a, b),
    (operator.truediv, operator.itruediv): lambda builder, a, b: builder.fdiv(a, b),
}.items():
    for _symbol in _symbols:
        _define(_symbol, vector, _emit)
_define(operator.lt, mask, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
_define(operator.le, mask, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))
_define(operator.gt, mask, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_define(operator.ge, mask, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))


@infer_global(operator.neg)
class _MinusTyping(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        return signature(vector, vector) if arguments == (vector,) else None


@lower_builtin(operator.neg, _Vector)
def _minus(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return builder.fneg(*values)


@infer_global(operator.and_)
class _BothTyping(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        return signature(mask, mask, mask) if arguments == (mask, mask) else None


@lower_builtin(operator.and_, _Mask, _Mask)
def _both(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    return builder.and_(*values)


# ----------------------------------------------------------------------------------------------------------- functions


def _instruction(typed: Callable[..., Any]) -> Any:
    """Something that kernels call by other arguments than those of its definition, which type checkers cannot know."""
    return intrinsic(typed)


@_instruction
def fma(_, a, b, c):  # type: ignore[no-untyped-def]
    """a * b + c, rounded once where the processor can do that: floats of one type, or vectors and numbers."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if signature.return_type == vector:
            values = [_spread_of(context, builder, *pair) for pair in zip(signature.args, values, strict=True)]
        return _called(builder, "llvm.fmuladd", context.get_value_type(signature.return_type), values)

    kinds = a, b, c
    if vector in kinds and all(isinstance(kind, _Vector | types.Number) for kind in kinds):
        return vector(*kinds), generate
    return (a(*kinds), generate) if isinstance(a, types.Float) and a == b == c else None


@_instruction
def load(_, array, index):  # type: ignore[no-untyped-def]
    """array[index : index + 8] of an array [N] without gaps; nobody checks that it ends there.

    It holds float32, or bfloat16 in the guise of uint16, which NumPy has no type for.
    """

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if signature.args[0].dtype == types.float32:
            return builder.load(_place(context, builder, signature, values, _VECTOR), align=4)
        halves = builder.load(_place(context, builder, signature, values, _HALVES), align=2)
        bits = builder.shl(builder.zext(halves, _BITS), _BITS([16] * LANES))
        return builder.bitcast(bits, _VECTOR)

    return (vector(array, types.intp), generate) if _is_row(array) and isinstance(index, types.Integer) else None


@_instruction
def store(_, array, index, value):  # type: ignore[no-untyped-def]
    """array[index : index + 8] = value, for the same arrays; bfloat16 is the nearest, of two the even one."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if signature.args[0].dtype == types.float32:
            builder.store(values[2], _place(context, builder, signature, values, _VECTOR), align=4)
        else:
            bits, half = builder.bitcast(values[2], _BITS), _BITS([16] * LANES)
            odd = builder.and_(builder.lshr(bits, half), _BITS([1] * LANES))
            nearest = builder.add(builder.add(bits, _BITS([0x7FFF] * LANES)), odd)
            halves = builder.trunc(builder.lshr(nearest, half), _HALVES)
            builder.store(halves, _place(context, builder, signature, values, _HALVES), align=2)
        return context.get_dummy_value()

    good = _is_row(array) and isinstance(index, types.Integer) and value == vector
    return (types.void(array, types.intp, vector), generate) if good else None


def _is_row(array: Any) -> bool:
    good = isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"
    return good and array.dtype in (types.float32, types.uint16)


def _place(context: Any, builder: Any, signature: Any, values: Any, kind: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, values[0]).data
    return builder.bitcast(builder.gep(data, [values[1]]), kind.as_pointer())


@_instruction
def spread(_, number):  # type: ignore[no-untyped-def]
    """A number eight times."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return _spread_of(context, builder, signature.args[0], values[0])

    return (vector(number), generate) if isinstance(number, types.Number) else None


@_instruction
def steps(_):  # type: ignore[no-untyped-def]
    """0, 1, 2, ..., 7."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return ir.Constant(_VECTOR, [float(lane) for lane in range(LANES)])

    return vector(), generate


@_instruction
def choose(_, condition, value, otherwise):  # type: ignore[no-untyped-def]
    """value where the mask holds, otherwise elsewhere; one of them may be a number."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        both = (_spread_of(context, builder, signature.args[n], values[n]) for n in (1, 2))
        return builder.select(values[0], *both)

    good = condition == mask and all(isinstance(kind, _Vector | types.Number) for kind in (value, otherwise))
    return (vector(condition, value, otherwise), generate) if good else None


@_instruction
def least(_, value, other):  # type: ignore[no-untyped-def]
    """The smaller of a vector and a vector or number, lane by lane; `other` where either is no number."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        first, second = (_spread_of(context, builder, signature.args[n], values[n]) for n in (0, 1))
        return builder.select(builder.fcmp_ordered("<", first, second), first, second)

    good = value == vector and isinstance(other, _Vector | types.Number)
    return (vector(value, other), generate) if good else None


@_instruction
def size(_, value):  # type: ignore[no-untyped-def]
    """The vector without its signs."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return _called(builder, "llvm.fabs", _VECTOR, values)

    return (vector(value), generate) if value == vector else None


@_instruction
def nearest(_, value):  # type: ignore[no-untyped-def]
    """The nearest whole numbers."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return _called(builder, "llvm.rint", _VECTOR, values)

    return (vector(value), generate) if value == vector else None


@_instruction
def add_up(_, value):  # type: ignore[no-untyped-def]
    """The sum of the eight lanes: halves first, then quarters, which is the same everywhere."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        total = values[0]
        for width in (4, 2, 1):
            lower, upper = (_mixed(builder, total, total, range(first, first + width)) for first in (0, width))
            total = builder.fadd(lower, upper)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return (types.float32(value), generate) if value == vector else None


@_instruction
def add_up_each(_, a, b, c, d, e, f, g, h):  # type: ignore[no-untyped-def]
    """The sums of eight vectors as one vector, with less work than eight times :func:`add_up`."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        # pairs of lanes of two vectors side by side, then quads of four, then all of all
        vectors = list(values)
        for lower in ([0, 8, 2, 10, 4, 12, 6, 14], [0, 1, 8, 9, 4, 5, 12, 13], [0, 1, 2, 3, 8, 9, 10, 11]):
            apart = LANES // len(vectors)
            vectors = [
                builder.fadd(_mixed(builder, first, second, lower), _mixed(builder, first, second, upper))
                for first, second in zip(vectors[::2], vectors[1::2], strict=True)
                for upper in [[lane + apart for lane in lower]]
            ]
        return vectors[0]

    kinds = a, b, c, d, e, f, g, h
    return (vector(*kinds), generate) if set(kinds) == {vector} else None
