"""Arrays out of old pickles, without executing anything that a pickle asks for.

Models of the SMPL family (FLAME among them) are distributed as pickles, many of them written by Python 2 and full of
objects of *chumpy*, a library that no longer installs. A pickle is a program: loaded in the usual way it may call
anything. Here it runs on a machine that was cut down twice. Only the operations that build plain data exist, and of the
names a pickle may ask for, a short list is known; behind each of them stands something inert of ours that holds what
it is given. No name ever resolves to an object of numpy, scipy or Python. When the pickle is through, the held buffers
are compared with the sizes they claim and become arrays.

Example: a file that asks for ``os.system`` ends in :class:`InputError`, which names it, and nothing has run.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stavatar.errors import InputError, reason
from stavatar.files import read_content

MOST_BYTES = 1 << 30
"""Largest file that is read: FLAME has 53 MB, four times as much in the text form of old pickles."""
MOST_OPERATIONS = 100_000
"""FLAME takes some hundreds."""
MOST_COPIED = 512 << 20
"""Bytes that may come out by calls and selections of what the file holds but once: FLAME has 61 MB of chumpy arrays."""
MOST_DENSE = 1 << 22
"""Most entries of a sparse matrix, which is made dense: a joint regressor has 25,115."""
MOST_NESTING = 8
"""Chumpy expressions (a selection of a selection of ...) deeper than this are refused."""


class _Refused(Exception):
    """What a pickle asked for and does not get; the message completes "it ..."."""


class _Held:
    """Base of what stands in for foreign classes: takes any arguments and a state, and does nothing with them."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Class(_Held):
    """A class that is only ever mentioned, such as ``numpy.ndarray`` as an argument."""


class _Dtype(_Held):
    """``numpy.dtype``: arguments (code, align, copy), state (version, byte order, ...)."""


class _Array(_Held):
    """``numpy.ndarray``: state (version, shape, dtype, is_fortran, buffer)."""


class _Buffer(_Held):
    """An array of protocol 5: arguments (buffer, dtype, shape, order)."""


class _Scalar(_Held):
    """A numpy number. No array of a head model needs one, but settings beside them may."""


class _Sparse(_Held):
    """A matrix of scipy.sparse: state is its attributes. `format` is csc or csr."""

    format = ""


class _Csc(_Sparse):
    format = "csc"


class _Csr(_Sparse):
    format = "csr"


class _Ch(_Held):
    """``chumpy.ch.Ch``: state {"x": array, ...}."""


class _Select(_Held):
    """``chumpy.reordering.Select``: state {"a": Ch, "idxs": flat indices, "preferred_shape": shape, ...}."""


def _reconstructor(kind: Any, base: Any, state: Any) -> _Held:
    """``copyreg._reconstructor``, by which protocols 0 and 1 make objects."""
    if not (isinstance(kind, type) and issubclass(kind, _Held)):
        raise _Refused("makes an object of something that is no class")
    return kind()


class _Budget:
    """How much may be made of a file, `MOST_COPIED` bytes: a thousand references to one text are a thousand copies."""

    def __init__(self) -> None:
        self.left = MOST_COPIED

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Refused(f"unfolds to more than {MOST_COPIED >> 20} MiB")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """``_codecs.encode``, by which Python 3 writes bytes in protocols 0 to 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("encodes text in another way than bytes are written")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    """``bytes``, by which Python 3 writes an empty buffer in protocols 0 to 2."""
    if arguments:
        raise _Refused("makes bytes out of something")
    return b""


def _empty_array(*arguments: Any) -> _Array:
    """``numpy.core.multiarray._reconstruct``; the size it asks for is not looked at, only the buffer's is."""
    return _Array()


def _names(items: Any = ()) -> set[str]:
    """``set``, of names: chumpy notes down which attributes have changed."""
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise _Refused("makes a set of something else than names")
    return set(items)


def _allowed() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Class,
        ("numpy", "dtype"): _Dtype,
        ("chumpy.ch", "Ch"): _Ch,
        ("chumpy", "Ch"): _Ch,
        ("chumpy.reordering", "Select"): _Select,
        ("_codecs", "encode"): _encode,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = _empty_array
        table[f"{core}.multiarray", "scalar"] = _Scalar
        table[f"{core}.numeric", "_frombuffer"] = _Buffer
    for kind in (_Csc, _Csr):
        name = f"{kind.format}_matrix"
        for module in ("scipy.sparse", f"scipy.sparse.{kind.format}", f"scipy.sparse._{kind.format}"):
            table[module, name] = kind
    for builtins in ("builtins", "__builtin__"):
        table[builtins, "set"] = _names
        table[builtins, "bytes"] = _no_bytes
        table[builtins, "object"] = _Class
    for registry in ("copyreg", "copy_reg"):
        table[registry, "_reconstructor"] = _reconstructor
    return table


_ALLOWED = _allowed()

_OPERATIONS = (
    # frame of a pickle
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP"),
    # what was made before, made use of again
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    # plain values
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    # containers
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS"),
    # names of the list above, called or filled in
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD"),
)
"""Everything else is refused: extension codes, persistent ids, old-style instances, foreign buffers, ..."""

_CODES = {ord(getattr(pickle, name)): name for name in _OPERATIONS}
_NAMES = {
    ord(code): name
    for name, code in vars(pickle).items()
    if name.isupper() and isinstance(code, bytes) and len(code) == 1
}


class _Machine(pickle._Unpickler):  # the Python one: its memory grows with what a file holds, not with what it claims
    """Runs a pickle over `_OPERATIONS` and `_ALLOWED`."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding="latin1")
        self._left = MOST_OPERATIONS
        self.budget = _Budget()
        self.dispatch = {code: self._guarded(code) for code in range(256)}  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except (KeyError, TypeError):
            raise _Refused(f"asks for {_shown(f'{module}.{name}')}, which no head model needs") from None

    def _guarded(self, code: int) -> Callable[[Any], None]:
        """One operation: counted, refused where it is not on the list, and checked where it could reach further."""
        name = _CODES.get(code)
        if name is None:
            what = f"the operation {_NAMES[code]}" if code in _NAMES else f"the byte 0x{code:02x} as an operation"
            return _refusing(f"uses {what}, which no head model needs")
        run: Callable[[Any], None] = _byte_array if name == "BYTEARRAY8" else pickle._Unpickler.dispatch[code]
        check = _CHECKS.get(name)

        def guarded(machine: _Machine) -> None:
            machine._left -= 1
            if machine._left < 0:
                raise _Refused(f"takes more than {MOST_OPERATIONS:,} operations")
            if check is not None:
                check(machine)
            run(machine)

        return guarded


def _byte_array(machine: Any) -> None:
    """BYTEARRAY8; Python's own makes room for as many bytes as are claimed before it looks whether they are there."""
    (length,) = struct.unpack("<Q", machine.read(8))
    machine.append(machine.read(length))


def _shown(text: str) -> str:
    """Text out of a file as part of a sentence: short, and without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _refusing(reason: str) -> Callable[[Any], None]:
    def refuse(machine: _Machine) -> None:
        raise _Refused(reason)

    return refuse


def _check_item(machine: Any) -> None:
    """Keys are names. (Hashing a deeply nested tuple, for one, would overrun Python's stack.)"""
    if not isinstance(machine.stack[-2], str):
        raise _Refused("has a dictionary whose keys are not names")


def _check_items(machine: Any) -> None:
    if not all(isinstance(key, str) for key in machine.stack[::2]):
        raise _Refused("has a dictionary whose keys are not names")


def _check_members(machine: Any) -> None:
    if not all(isinstance(item, str) for item in machine.stack):
        raise _Refused("makes a set of something else than names")


def _check_built(machine: Any) -> None:
    """Before BUILD: a state may be given to what was made from this file only, not to the stand-ins themselves."""
    if not isinstance(machine.stack[-2], _Held):
        raise _Refused("gives a state to something that has none")


def _check_call(machine: Any) -> None:
    """A call may copy the texts it is given."""
    if machine.stack and isinstance(machine.stack[-1], tuple):
        machine.budget.spend(sum(len(value) for value in machine.stack[-1] if isinstance(value, str | bytes)))


_CHECKS: dict[str, Callable[[Any], None]] = {
    "REDUCE": _check_call,
    "SETITEM": _check_item,
    "SETITEMS": _check_items,
    "DICT": _check_items,
    "ADDITEMS": _check_members,
    "BUILD": _check_built,
}


def read_array_pickle(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a pickled dictionary; its other entries (texts, numbers) are left out.

    Sparse matrices become dense ones. Chumpy's arrays, and selections of them, become arrays.

    Args:
        path: the file, of any pickle protocol, written by Python 2 or 3.

    Raises:
        InputError: the file cannot be read, asks for anything but arrays, or its arrays are not what they claim to be.
    """
    machine = _Machine(read_content(path, most_bytes=MOST_BYTES))
    try:
        loaded = machine.load()
    except _Refused as refused:
        raise InputError(f"{path} {refused}: nothing in it was executed, and it is not read") from refused
    except (MemoryError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is not a pickle of a head model: it asks for too much memory") from error
    except Exception as error:  # operations meet what they do not expect: nearly anything may be raised
        what = "it is cut short" if isinstance(error, EOFError | struct.error) else _shown(reason(error))
        raise InputError(f"{path} is not a whole pickle: {what}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path} holds no dictionary of arrays, as a head model does")
    arrays = {}
    for name, value in loaded.items():
        if isinstance(value, _Array | _Buffer | _Sparse | _Ch | _Select):
            try:
                arrays[name] = _value(value, MOST_NESTING, machine.budget)
            except _Refused as refused:
                raise InputError(f"{path}: {_shown(name)} {refused}") from refused
    return arrays


def numpy_stand_ins() -> list[Any]:
    """Pairs of what is to be made and of which of numpy's names, for readers of pickles that ask, as torch's does.

    numpy's own classes believe what a pickle has them filled with, and a hostile one ends the process.
    """
    cores = [f"{core}.multiarray._reconstruct" for core in ("numpy.core", "numpy._core")]
    return [(_Array, "numpy.ndarray"), (_Dtype, "numpy.dtype"), *((_empty_array, name) for name in cores)]


def unfold(value: Any) -> Any:
    """What was read with :func:`numpy_stand_ins`, with arrays in the place of what stood in for them.

    Raises:
        ValueError: something is no complete array, or dictionaries and lists lie too deep in each other.
    """
    return _unfolded(value, MOST_NESTING, _Budget())


def _unfolded(value: Any, depth: int, budget: _Budget) -> Any:
    try:
        if depth == 0:
            raise _Refused("is nested too deep")
        if isinstance(value, _Array):
            return _array(value, budget)
    except _Refused as refused:
        raise ValueError(f"an array {refused}") from refused
    if isinstance(value, _Held):
        raise ValueError("something is not a complete array")
    if isinstance(value, dict):
        return {key: _unfolded(item, depth - 1, budget) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_unfolded(item, depth - 1, budget) for item in value)
    return value


def _value(held: Any, depth: int, budget: _Budget) -> np.ndarray:
    """The array that something held stands for."""
    if depth == 0:
        raise _Refused("is nested too deep")
    if isinstance(held, _Array):
        return _array(held, budget)
    if isinstance(held, _Buffer):
        buffer, dtype, shape, order = _exactly(held.arguments, 4)
        return _from_buffer(buffer, dtype, shape, order, budget)
    if isinstance(held, _Sparse):
        return _dense(held, depth, budget)
    state = held.state if isinstance(held, _Held) else None
    if isinstance(held, _Ch) and isinstance(state, dict) and "x" in state:
        return _value(state["x"], depth - 1, budget)
    if isinstance(held, _Select) and isinstance(state, dict) and {"a", "idxs"} <= state.keys():
        source = _value(state["a"], depth - 1, budget)
        chosen = _value(state["idxs"], depth - 1, budget)
        budget.spend(source.nbytes + chosen.size * source.itemsize)
        source = source.ravel()
        if chosen.dtype.kind not in "iu" or (chosen.size and not (0 <= chosen.min() <= chosen.max() < source.size)):
            raise _Refused("selects entries that are not there")
        picked = source[chosen.ravel()]
        shape = state.get("preferred_shape")
        return picked if shape is None else picked.reshape(_shape(shape, picked.size))
    raise _Refused("is not a complete array")


def _exactly(values: Any, count: int) -> tuple[Any, ...]:
    if not isinstance(values, tuple) or len(values) != count:
        raise _Refused("is not a complete array")
    return values


def _array(held: _Array, budget: _Budget) -> np.ndarray:
    state = held.state
    if isinstance(state, tuple) and len(state) == 4:  # numpy's first pickles have no version
        state = (0, *state)
    shape, dtype, fortran, buffer = _exactly(state, 5)[1:]
    return _from_buffer(buffer, dtype, shape, "F" if fortran else "C", budget)


def _from_buffer(buffer: Any, held: Any, shape: Any, order: Any, budget: _Budget) -> np.ndarray:
    if isinstance(buffer, str):
        budget.spend(len(buffer))
        buffer = buffer.encode("latin1")  # Python 2's strings are bytes
    if not isinstance(buffer, bytes):
        raise _Refused("holds objects and not numbers")
    dtype = _dtype(held)
    if len(buffer) % dtype.itemsize:
        raise _Refused("is not as large as it claims to be")
    flat = np.frombuffer(buffer, dtype)
    return flat.reshape(_shape(shape, flat.size), order="F" if order == "F" else "C")


def _shape(shape: Any, size: int) -> tuple[int, ...]:
    whole = (
        isinstance(shape, tuple) and len(shape) <= 8 and all(type(length) is int and length >= 0 for length in shape)
    )
    if not whole or math.prod(shape) != size:
        raise _Refused("is not as large as it claims to be")
    return tuple(shape)


def _dtype(held: Any) -> np.dtype:
    """A plain number type: floats, integers, booleans, of either byte order."""
    code = held.arguments[0] if isinstance(held, _Dtype) and held.arguments else None
    if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?(f[248]|[iu][1248]|b1)", code):
        raise _Refused("holds objects and not numbers")
    order = held.state[1] if isinstance(held.state, tuple) and len(held.state) > 1 else "|"
    if order == ">":
        return np.dtype(code).newbyteorder(">")
    return np.dtype(code).newbyteorder("<") if order == "<" else np.dtype(code)


def _dense(held: _Sparse, depth: int, budget: _Budget) -> np.ndarray:
    state = held.state if isinstance(held.state, dict) else {}
    names = {"data", "indices", "indptr"} & state.keys()
    parts = {name: _value(state[name], depth - 1, budget) for name in names}
    shape = state.get("_shape", state.get("shape"))
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(length) is int for length in shape):
        raise _Refused("is a sparse matrix without a shape")
    if min(shape) < 1 or math.prod(shape) > MOST_DENSE:
        raise _Refused("is a sparse matrix of a size that no head model has")
    budget.spend(8 * math.prod(shape))
    if parts.keys() != {"data", "indices", "indptr"} or any(part.ndim != 1 for part in parts.values()):
        raise _Refused("is not a complete sparse matrix")
    data, across, ends = parts["data"], parts["indices"], parts["indptr"]
    along, wide = shape[::-1] if isinstance(held, _Csc) else shape
    whole = (
        across.dtype.kind in "iu"
        and ends.dtype.kind in "iu"
        and len(ends) == along + 1
        and ends[0] == 0
        and bool((ends[1:] >= ends[:-1]).all())
        and int(ends[-1]) == len(data) == len(across)
        and (len(across) == 0 or 0 <= int(across.min()) <= int(across.max()) < wide)
    )
    if not whole:
        raise _Refused("is not a complete sparse matrix")
    # Not through scipy: its compiled loops trust what a matrix says of itself.
    counts = ends[1:].astype(np.int64) - ends[:-1].astype(np.int64)
    dense = np.zeros((along, wide), data.dtype.newbyteorder("="))
    np.add.at(dense, (np.repeat(np.arange(along), counts), across.astype(np.int64)), data)
    return dense.T if isinstance(held, _Csc) else dense
