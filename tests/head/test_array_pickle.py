"""Arrays out of pickles: every way they are written, and every way in which a pickle may try to do something else."""

from __future__ import annotations

import collections
import io
import os
import pickle
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from made_up_flame import chumpy_look_alikes, installed
from stavatar.errors import InputError
from stavatar.head import array_pickle
from stavatar.head.array_pickle import numpy_stand_ins, read_array_pickle, unfold


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, np.ndarray]]:
    def read(content: bytes) -> dict[str, np.ndarray]:
        (tmp_path / "model.pkl").write_bytes(content)
        return read_array_pickle(tmp_path / "model.pkl")

    return read


def content() -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """What is pickled, and what should come out of it."""
    classes = chumpy_look_alikes()
    rng = np.random.default_rng(1)
    whole = rng.normal(size=(4, 5))
    sparse = sp.csc_matrix((rng.random((5, 9)) > 0.6) * rng.normal(size=(5, 9)))
    expected = {
        "floats": rng.normal(size=(3, 2)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "single": rng.normal(size=7).astype(np.float32),
        "swapped": rng.normal(size=3).astype(">f8"),
        "whole": rng.integers(0, 2**32, (2, 5), dtype=np.uint32),
        "truth": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "sparse": sparse.toarray(),
        "rows": sparse.toarray(),
        "chumpy": whole,
        "selected": whole[:, :3],
    }
    ch = classes["Ch"](x=whole, _dirty_vars={"x"}, _itr=None, _depends_on_deps={})
    given = dict(expected) | {
        "sparse": sparse,
        "rows": sparse.tocsr(),
        "chumpy": ch,
        "selected": classes["Select"](
            a=ch, idxs=np.arange(20).reshape(4, 5)[:, :3].ravel(), preferred_shape=(4, 3), _dirty_vars=set()
        ),
        "text": "lbs",
        "number": 3,
        "scalar": np.float64(2.5),
        "nothing": None,
        "list": [1, 2.5, "x"],
    }
    return given, expected


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_every_kind_of_array(read, protocol):
    given, expected = content()
    with installed(chumpy_look_alikes_of(given)):
        found = read(pickle.dumps(given, protocol=protocol))
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype.kind == value.dtype.kind, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def chumpy_look_alikes_of(given: dict[str, object]) -> dict[str, type]:
    return {"Ch": type(given["chumpy"]), "Select": type(given["selected"])}


PYTHON_2 = b"""(dp1
S'J'
p2
cnumpy.core.multiarray
_reconstruct
p3
(cnumpy
ndarray
p4
(I0
tp5
S'b'
p6
tp7
Rp8
(I1
(I2
tp9
cnumpy
dtype
p10
(S'f8'
p11
I0
I1
tp12
Rp13
(I3
S'<'
p14
NNNI-1
I-1
I0
tp15
bI00
S'\\x00\\x00\\x00\\x00\\x00\\x00\\xf8?\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xc0'
p16
tp17
bsS'Ch'
p18
ccopy_reg
_reconstructor
p19
(cchumpy.ch
Ch
p20
c__builtin__
object
p21
Ntp22
Rp23
(dp24
S'x'
g8
sS'_dirty_vars'
c__builtin__
set
((lp25
S'x'
atRsbs."""


def test_text_as_python_2_writes_it(read):
    found = read(PYTHON_2)
    assert found["J"].tolist() == found["Ch"].tolist() == [1.5, -2.0]


# ------------------------------------------------------------------------------------------------------------- attacks


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


ATTACKS = {
    "os.system": lambda mark: Call(os.system, f"touch {mark}"),
    "eval": lambda mark: Call(eval, f"open({str(mark)!r}, 'w')"),
    "exec": lambda mark: Call(exec, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: Call(open, str(mark), "w"),
    "subprocess": lambda mark: Call(subprocess.Popen, ["touch", str(mark)]),
    "getattr": lambda mark: Call(getattr, Call(__import__, "os"), "system"),
    "import": lambda mark: Call(__import__, "antigravity"),
    "numpy's loader": lambda mark: Call(np.load, str(mark)),
    "numpy's file": lambda mark: Call(np.memmap, str(mark), "u1", "w+", 0, (8,)),
    "a pickle in it": lambda mark: Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {mark}"))),
    "as a key": lambda mark: {Call(collections.OrderedDict): 1},
    "as a state": lambda mark: [np.zeros(2), Call(os.system, f"touch {mark}")],
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_calls_are_refused_with_their_name_and_not_made(read, tmp_path, attack, protocol):
    mark = tmp_path / "executed"
    with pytest.raises(InputError, match=r"asks for \S+\.\S+, which no head model needs|keys are not names") as refused:
        read(pickle.dumps({"f": attack(mark)}, protocol=protocol))
    assert not mark.exists()
    assert str(tmp_path / "model.pkl") in str(refused.value)


def test_the_refused_name_is_told(read, tmp_path):
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.system, which"):
        read(pickle.dumps(Call(os.system, f"touch {tmp_path / 'executed'}")))


OPCODES = {
    "a dotted name": b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93.",
    "a stand-in's own attribute": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "an old instance": b"(ios\nsystem\n.",
    "an old object": b"(cos\nsystem\nS'true'\no.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pfile\n.",
    "a foreign buffer": b"\x80\x05\x97.",
    "keyword arguments": b"\x80\x04cnumpy\nndarray\n)}\x92.",
    "an unknown byte": b"\x80\x02\xff.",
    "a state for a class": b"cnumpy\ndtype\nN}S'__setstate__'\nc_codecs\nencode\ns\x86b.",
    "a state for a function": b"c_codecs\nencode\n}S'__defaults__'\nNsb.",
    "an object of no class": b"ccopy_reg\n_reconstructor\n(c_codecs\nencode\nc__builtin__\nobject\nNtR.",
    "an encoding": b"c_codecs\nencode\n(S'x'\nS'idna'\ntR.",
    "a set of tuples": b"c__builtin__\nset\n((l)atR.",
}


@pytest.mark.parametrize("program", OPCODES.values(), ids=OPCODES.keys())
def test_other_machinery_is_refused(read, program):
    with pytest.raises(InputError):
        read(program)
    given, expected = content()
    with installed(chumpy_look_alikes_of(given)):
        assert set(read(pickle.dumps(given))) == set(expected), "nothing of ours was changed"


BOMBS = {
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "a byte array": b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"x.",
    "a key that is too deep to hash": b"\x80\x02})" + b"\x85" * 90_000 + b"K\x01s.",
    "doubling lists": b"\x80\x02]" + b"2\x86" * 200_000 + b".",
    "too many operations": b"N0" * 100_000 + b"}.",
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
}


@pytest.mark.parametrize("program", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_do_not_go_off(read, program):
    with pytest.raises(InputError):
        read(program)


@pytest.mark.parametrize(
    "program",
    [b"\x80\x02}r" + struct.pack("<I", 2**31) + b".", b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"}."],
    ids=["a memory slot far away", "a frame"],
)
def test_claims_cost_nothing(read, program):
    """With the C unpickler the first would fill 32 GiB with zeros."""
    assert read(program) == {}


def test_arrays_larger_than_their_data(read):
    class Claims(np.ndarray):
        def __reduce__(self):
            version, _, *rest = super().__reduce__()[2]
            return np.zeros(0).__reduce__()[0], (np.ndarray, (10**12,), b"b"), (version, (10**12,), *rest)

    with pytest.raises(InputError, match="f is not as large as it claims to be"):
        read(pickle.dumps({"f": np.zeros(4).view(Claims)}, protocol=2))


def test_sparse_matrices_that_would_fill_the_memory(read):
    with pytest.raises(InputError, match="J is a sparse matrix of a size that no head model has"):
        read(pickle.dumps({"J": sp.csc_matrix((10**5, 10**5))}))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("indptr", [0, 1, 9, 3, 4]),
        ("indptr", [0, 1, 2, 3, 10**9]),
        ("indptr", [0, -(10**9), 2, 3, 4]),
        ("indptr", [1, 1, 2, 3, 4]),
        ("indptr", [0, 4]),
        ("indices", [0, 1, -5, 3]),
        ("indices", [0, 1, 2]),
        ("data", [1.0, 1.0, 1.0]),
    ],
    ids=lambda value: str(value),
)
def test_sparse_matrices_whose_parts_do_not_fit(read, part, value):
    """Compiled loops over such a matrix would write wherever it says: they never see it."""
    matrix = sp.csc_matrix(np.eye(4))
    setattr(matrix, part, np.array(value, getattr(matrix, part).dtype))
    with pytest.raises(InputError, match="J is not a complete sparse matrix"):
        read(pickle.dumps({"J": matrix}))


def test_entries_of_sparse_matrices_that_are_there_twice_are_added(read):
    matrix = sp.csr_matrix((np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), (2, 3))
    np.testing.assert_array_equal(read(pickle.dumps({"J": matrix}))["J"], [[0, 3, 0], [4, 0, 0]])


def test_a_thousand_copies_of_one_matrix(read):
    """A dictionary of a few kilobytes that would become 32 GB."""
    matrix = sp.csc_matrix((2048, 2048))
    with pytest.raises(InputError, match="unfolds to more than 512 MiB"):
        read(pickle.dumps({f"J{number}": matrix for number in range(1000)}))


def test_sparse_matrices_that_point_outside(read):
    matrix = sp.csr_matrix(np.eye(4))
    matrix.indices[2] = 77
    with pytest.raises(InputError, match="J is not a complete sparse matrix"):
        read(pickle.dumps({"J": matrix}))


def test_selections_that_point_outside(read):
    classes = chumpy_look_alikes()
    selected = classes["Select"](a=classes["Ch"](x=np.zeros(3)), idxs=np.array([0, 3]))
    with installed(classes), pytest.raises(InputError, match="s selects entries that are not there"):
        read(pickle.dumps({"s": selected}))


def test_expressions_nested_too_deep(read):
    classes = chumpy_look_alikes()
    node = np.zeros(3)
    for _ in range(50):
        node = classes["Ch"](x=node)
    with installed(classes), pytest.raises(InputError, match="n is nested too deep"):
        read(pickle.dumps({"n": node}))


@pytest.mark.parametrize(
    "array", [np.array([{}, []], object), np.array(["a"]), np.zeros(2, [("a", "f8")]), np.zeros(1, "M8[s]")]
)
def test_arrays_of_anything_but_numbers(read, array):
    with pytest.raises(InputError):
        read(pickle.dumps({"f": array}))


def test_a_file_that_is_too_large(read, monkeypatch):
    monkeypatch.setattr(array_pickle, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="larger than"):
        read(b"\x80\x02}." + b" " * 20)


def test_something_else_than_a_dictionary(read):
    with pytest.raises(InputError, match="no dictionary"):
        read(pickle.dumps([np.zeros(3)]))


def test_cut_and_damaged_files_end_in_a_sentence(read):
    """Whatever bytes are missing or wrong, the answer is arrays or an InputError."""
    given, _ = content()
    chance = random.Random(0)
    with installed(chumpy_look_alikes_of(given)):
        for protocol in (0, 2, 4):
            whole = pickle.dumps(given, protocol=protocol)
            for _ in range(150):
                broken = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
                for _ in range(chance.randrange(1, 4)):
                    if broken:
                        broken[chance.randrange(len(broken))] = chance.randrange(256)
                try:
                    read(bytes(broken))
                except InputError as error:
                    assert len(str(error)) < 500


def of_torch(content):
    """What torch's restricted reader makes of a file with stand-ins for numpy's names."""
    stored = io.BytesIO()
    torch.save(content, stored)
    stored.seek(0)
    with torch.serialization.safe_globals(numpy_stand_ins()):
        return torch.load(stored, weights_only=True)


def test_torch_fills_our_stand_ins_and_not_numpys_classes():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    read = of_torch({"a": [array, (array[::-1].copy(order="F"), "text")]})
    assert not isinstance(read["a"][0], np.ndarray)
    first, (second, text) = unfold(read)["a"]
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array[::-1])
    assert text == "text" and first.dtype == np.float32


def test_objects_in_an_array_of_torch_are_refused():
    with pytest.raises(ValueError, match="holds objects and not numbers"):
        unfold(of_torch({"a": np.array([1, "x"], dtype=object)}))
