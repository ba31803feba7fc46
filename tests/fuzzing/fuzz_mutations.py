"""Broken files made from whole ones: a mutation takes a file's content and a source of chance, and returns another.

Each knows the structure of its kind of file, so that what it makes gets past the first check and reaches the code
behind. All chance comes from the `random.Random` that is given: Hypothesis drives one in the tests, a seed does in the
long run (``benchmarks/fuzz.py``).
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import pickle
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

Mutation = Callable[[bytes, Random], bytes]

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e-320, 1e39, -1e308, float("nan"), float("inf"), float("-inf")),
    *(2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, [], {}, "", " ", ".", "..", "0", "nan"),
    *("/etc/passwd", "../../etc/passwd", "..\\x", "C:\\x", "file:///etc/passwd", "~", "a\0b", "\ud800", "x" * 5000),
    *("\x1b[31mred", "line\nbreak", "‮", "%s%n", "images/00000_00.png", "flame_param/00000.npz"),
    *([1], [[]], [None], {"a": 1}, [[1, 2], [3]], [float("nan")] * 3, "frames"),
)
"""What a field may hold that nobody expects there."""

ODD_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)

# --------------------------------------------------------------------------------------------------------- any bytes


def any_bytes(content: bytes, random: Random) -> bytes:
    """One to four cuts, copies, flips or overwritten numbers, most of them near the start, where headers are."""
    broken = bytearray(content)
    for _ in range(random.randint(1, 4)):
        size = len(broken)
        reach = min(size, 256) if random.random() < 0.5 else size
        at = random.randrange(reach) if reach else 0
        length = random.choice((1, 1, 2, 4, 8, 16, 100))
        act = random.randrange(7)
        if act == 0 and size:
            broken[at] ^= 1 << random.randrange(8)
        elif act == 1:
            width = random.choice((1, 2, 4, 8))
            number = random.choice(ODD_NUMBERS) & (1 << 8 * width) - 1
            broken[at : at + width] = number.to_bytes(width, random.choice(("little", "big")))
        elif act == 2:
            del broken[at : at + length]
        elif act == 3:
            broken[at:at] = broken[at : at + length]
        elif act == 4:
            broken[at : at + length] = bytes(random.randrange(256) for _ in range(length))
        elif act == 5:
            other = random.randrange(size) if size else 0
            broken[at : at + length] = broken[other : other + length]
        elif random.random() < 0.3:
            del broken[at:]
    return bytes(broken)


# -------------------------------------------------------------------------------------------------- trees of values


def odd_value(random: Random) -> Any:
    """An unexpected value; now and then a deep or a long one."""
    if random.random() < 0.02:
        deep: Any = []
        for _ in range(random.choice((40, 200))):
            deep = [deep]
        return deep
    return copy.deepcopy(random.choice(ODD_VALUES))


def change_tree(tree: Any, random: Random) -> Any:
    """One to three nodes of nested lists and dicts replaced, removed, repeated, renamed or wrapped; in place."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        holder, key = _some_place(tree, random)
        if holder is None:
            return odd_value(random)
        act = random.randrange(8)
        if act <= 3:
            holder[key] = odd_value(random)
        elif act == 4:
            del holder[key]
        elif act == 5 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif act == 5:
            holder[str(odd_value(random))[:50]] = holder.pop(key)
        elif act == 6:
            holder[key] = random.choice(([holder[key]], {"a": holder[key]}, str(holder[key])[:200]))
        else:
            other, name = _some_place(tree, random)
            if other is not None:
                holder[key] = copy.deepcopy(other[name])
    return tree


def _some_place(tree: Any, random: Random) -> tuple[Any, Any]:
    """A container in the tree and a key of it, however deep; (None, None) where there is none."""
    holder, key = None, None
    node = tree
    while isinstance(node, list | dict) and node:
        holder, key = node, random.choice(list(node)) if isinstance(node, dict) else random.randrange(len(node))
        node = holder[key]
        if random.random() < 0.25:
            break
    return holder, key


def json_text(content: bytes, random: Random) -> bytes:
    """A JSON file with some values changed, or its text."""
    if random.random() < 0.15:
        return any_bytes(content, random)
    tree = change_tree(json.loads(content), random)
    text = json.dumps(tree, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")
    return any_bytes(text, random) if random.random() < 0.05 else text


YAML_SNIPPETS = (
    *("&a [*a, *a]", "*a", "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!binary '%'"),
    *(
        "2001-99-99",
        "!!timestamp x",
        "!!int ''",
        "!!float x",
        "190:20:30",
        "0o17",
        "1_000",
        ".nan",
        ".inf",
        "~",
        "{",
        "[",
    ),
    *(
        "<<: {a: 1}",
        "? [a]",
        "!!set {a}",
        "!!omap [a: 1]",
        "---",
        "...",
        "%YAML 9.9",
        "\t",
        "'",
        "|",
        ">",
        "@",
        "9" * 5000,
    ),
)


def yaml_text(content: bytes, random: Random) -> bytes:
    """A YAML file with a value, a line or some bytes changed."""
    if random.random() < 0.2:
        return any_bytes(content, random)
    lines = content.decode().split("\n")
    for _ in range(random.randint(1, 2)):
        at = random.randrange(len(lines))
        act = random.randrange(5)
        name, colon, _value = lines[at].partition(":")
        if act == 0:
            lines[at] = f"{name}{colon} {random.choice(YAML_SNIPPETS)}"
        elif act == 1:
            value = odd_value(random)
            lines[at] = f"{name}{colon} {value if isinstance(value, int | float | str) else json.dumps(value)}"
        elif act == 2:
            del lines[at]
        elif act == 3:
            lines.insert(at, lines[random.randrange(len(lines))])
        else:
            lines[at] = " " * random.randrange(5) + random.choice(YAML_SNIPPETS)
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def csv_text(content: bytes, random: Random) -> bytes:
    """A table with some cells, rows or columns changed."""
    if random.random() < 0.2:
        return any_bytes(content, random)
    rows = [line.split(",") for line in content.decode().split("\n")]
    for _ in range(random.randint(1, 3)):
        row = rows[0] if random.random() < 0.3 else random.choice(rows)
        at = random.randrange(len(row)) if row else 0
        act = random.randrange(6)
        if act <= 2 and row:
            odd = random.choice(
                ("00:00:00:00.0", "9" * 5000, "1e999", '"', "٣", "0:0:0:" + "9" * 30, "time", "Timecode")
            )
            row[at] = odd if random.random() < 0.4 else str(odd_value(random))
        elif act == 3:
            del row[at:]
        elif act == 4:
            row.insert(at, row[at] if row else "")
        else:
            rows.insert(random.randrange(len(rows)), list(random.choice(rows)))
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def text_of_numbers(content: bytes, random: Random) -> bytes:
    """Lines of numbers, some of them changed."""
    if random.random() < 0.3:
        return any_bytes(content, random)
    words = content.decode().split("\n")
    for _ in range(random.randint(1, 3)):
        words[random.randrange(len(words))] = str(odd_value(random))
    return "\n".join(words).encode("utf-8", "surrogatepass")


# ------------------------------------------------------------------------------------------------------ npz and torch


def npz(content: bytes, random: Random) -> bytes:
    """An archive of arrays, one of them with other values, shape, type, header or name; or with other bytes."""
    if random.random() < 0.25:
        return any_bytes(content, random)
    with np.load(io.BytesIO(content)) as data:
        arrays = dict(data)
    members = {f"{name}.npy": array_bytes(array) for name, array in arrays.items()}
    for _ in range(random.randint(1, 2)):
        name = random.choice(list(members))
        array = arrays.get(name.removesuffix(".npy"))
        act = random.randrange(5)
        if act == 0:
            members[random.choice(("__import__.npy", "../x.npy", "shape.txt", "shape", "é.npy"))] = members.pop(name)
        elif act == 1:
            members[name] = any_bytes(members[name], random)
        elif act == 2:
            members[name] = _npy_with_another_header(members[name], random)
        elif array is not None:
            members[name] = array_bytes(_changed_array(array, random))
        members = members or {"shape.npy": b""}
    packed = io.BytesIO()
    method = random.choice(
        (*[zipfile.ZIP_STORED] * 8, *[zipfile.ZIP_DEFLATED] * 8, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return any_bytes(packed.getvalue(), random) if random.random() < 0.1 else packed.getvalue()


def array_bytes(array: np.ndarray) -> bytes:
    """An array as a .npy file; objects are pickled, which readers must refuse."""
    written = io.BytesIO()
    np.save(written, array, allow_pickle=True)
    return written.getvalue()


def _changed_array(array: np.ndarray, random: Random) -> np.ndarray:
    act = random.randrange(8)
    if act == 0:
        return array.astype(
            random.choice(("f2", "f8", ">f4", "i8", "u1", "?", "c8", "S3", "U2", "O", "M8[s]", "f4,f4"))
        )
    if act == 1:
        changed = array.astype(np.float64)
        if changed.size:
            changed.flat[random.randrange(changed.size)] = random.choice((np.nan, np.inf, 1e39, 1e308, -1e300))
        return changed
    if act == 2:
        return array.reshape(-1)
    if act == 3:
        return array[..., None] if random.random() < 0.5 else array[None]
    if act == 4:
        return array[: random.randrange(len(array) + 1)] if array.ndim else array
    if act == 5:
        return np.array(
            random.choice((3.0, "text", None, {"a": 1}, [])), dtype=object if random.random() < 0.5 else None
        )
    if act == 6:
        return np.zeros((*array.shape, 0), array.dtype)
    return np.concatenate([array, array], -1) if array.ndim else array


def _npy_with_another_header(member: bytes, random: Random) -> bytes:
    match = re.search(rb"\{.*\}", member)
    if match is None:
        return member
    header = random.choice(
        (
            b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }",
            b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            b"{'descr': [('a', '<f4'), ('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
            b"{'descr': '<f4', 'fortran_order': 1, 'shape': (1, 3), }",
            b"{'descr': '<f4', 'fortran_order': True, 'shape': (1L, 3L), }",
            b"{'descr': '<V1000000000', 'fortran_order': False, 'shape': (1000,), }",
            b"{'descr': ('<f4', (9,) * 9), 'shape': (), }",
            b"{" + b"(" * 90 + b"}",
            b"{'shape': [1] * 10**9}",
            any_bytes(match[0], random),
        )
    )
    body = member[match.end() :].lstrip(b" ").lstrip(b"\n")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + body


def torch_file(content: bytes, random: Random) -> bytes:
    """A torch archive with its pickle changed, or any bytes of it."""
    if random.random() < 0.3:
        return any_bytes(content, random)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w") as archive:
        for member in source.infolist():
            body = source.read(member)
            if member.filename.endswith("data.pkl"):
                body = pickled(body, random)
            elif random.random() < 0.05:
                body = any_bytes(body, random)
            archive.writestr(member.filename, body)
    return packed.getvalue()


# ------------------------------------------------------------------------------------------------------------ pickles

CALLS = (
    *(b"cos\nsystem\n(S'true'\ntR", b"cbuiltins\neval\n(V1\ntR", b"c__builtin__\nexec\n(V1\ntR", b"cposix\nsystem\n"),
    *(b"cnumpy\nload\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n(Vx\nVlatin1\ntR"),
    *(
        b"\x8c\x02os\x8c\x06system\x93",
        b"(ios\nsystem\n",
        b"(S'x'\nobuiltins\n",
        b"cscipy.sparse\ncsc_matrix\n)R",
        b"}b",
    ),
    *(
        b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR",
        b"cnumpy\ndtype\n(Vf8\ntR",
        b"c__builtin__\nset\n",
    ),
)
"""Pieces of pickles that ask for something."""


def pickled(content: bytes, random: Random) -> bytes:
    """A pickle with operations dropped, repeated, exchanged, put in or given other arguments."""
    if random.random() < 0.2:
        return any_bytes(content, random)
    try:
        starts = [position for _, _, position in pickletools.genops(content)]
    except Exception:
        return any_bytes(content, random)
    ends = [*starts[1:], len(content)]
    parts = [content[start:end] for start, end in zip(starts, ends, strict=True)]
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(parts))
        act = random.randrange(6)
        if act == 0:
            del parts[at]
        elif act == 1:
            parts.insert(at, parts[random.randrange(len(parts))])
        elif act == 2:
            parts[at] = parts[random.randrange(len(parts))]
        elif act == 3:
            parts.insert(at, random.choice(CALLS))
        elif act == 4:
            parts[at] = any_bytes(parts[at], random)
        else:
            parts.insert(at, pickle.dumps(odd_value(random), protocol=2)[2:-1])
        parts = parts or [b"."]
    return b"".join(parts)


# ---------------------------------------------------------------------------------- splats, safetensors, PNG, videos


def ply(content: bytes, random: Random) -> bytes:
    """A PLY with a line of its header changed, or any bytes."""
    head, end, body = content.partition(b"end_header\n")
    if random.random() < 0.3 or not end:
        return any_bytes(content, random)
    lines = head.split(b"\n")
    at = random.randrange(len(lines))
    counts = (b"0", b"1", b"-1", b"4000000000", b"9" * 30, b"9" * 5000, b"1e3", b"x", "٣".encode())
    act = random.randrange(4)
    if act == 0:
        lines[2 if len(lines) > 2 else at] = b"element vertex " + random.choice(counts)
    elif act == 1:
        del lines[at]
    elif act == 2:
        lines.insert(at, random.choice((b"element face 3", b"property list uchar int vertex_indices", b"", lines[at])))
    else:
        lines[at] = any_bytes(lines[at], random)
    return b"\n".join(lines) + end + body


def spz(content: bytes, random: Random) -> bytes:
    """An SPZ whose uncompressed part is changed, or the compressed one."""
    if random.random() < 0.3:
        return any_bytes(content, random)
    plain = any_bytes(gzip.decompress(content), random)
    return gzip.compress(plain + bytes(random.choice((0, 0, 0, 1 << 16))), compresslevel=1)


def safetensors(content: bytes, random: Random) -> bytes:
    """Tensors with the JSON in front of them changed, or any bytes."""
    if random.random() < 0.25:
        return any_bytes(content, random)
    (length,) = struct.unpack("<Q", content[:8])
    body = content[8 + length :]
    if random.random() < 0.4:  # values, not their description
        at = random.randrange(max(1, len(body) - 4))
        odd = struct.pack("<f", random.choice((float("nan"), float("inf"), 1e38, -1.0)))
        return content[: 8 + length] + body[:at] + odd + body[at + 4 :]
    header = json.loads(content[8 : 8 + length])
    if random.random() < 0.3:  # one tensor of another shape that has as many bytes
        entry = header[random.choice([name for name in header if name != "__metadata__"])]
        entry["shape"] = random.choice((entry["shape"][::-1], [1, *entry["shape"]], entry["shape"][:-1] or [1]))
    else:
        header = change_tree(header, random)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", random.choice((len(text), len(text), len(text), 2**63, 0))) + text + body


def png(content: bytes, random: Random) -> bytes:
    """A PNG whose chunks have been changed and then given the right checksums, or any bytes; JPEGs are any bytes."""
    if not content.startswith(b"\x89PNG") or random.random() < 0.3:
        return any_bytes(content, random)
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    extra = random.choice(
        (
            (b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0"),
            *((b"acTL", struct.pack(">II", 3, 0)), (b"PLTE", b"\0\0\0"), (b"tRNS", b"\0"), (b"gAMA", b"")),
            *(
                (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 16))),
                (b"iCCP", b"a\0\0x"),
                (b"IHDR", b""),
                (b"IEND", b""),
            ),
        )
    )
    at = random.randrange(len(chunks))
    kind, body = chunks[at]
    act = random.randrange(4)
    if act == 0:
        chunks[at] = (kind, any_bytes(body, random))
    elif act == 1:
        chunks.insert(at, extra)
    elif act == 2:
        del chunks[at]
    else:
        size, rest = struct.pack(">II", *random.choices((0, 1, 64, 70, 9000, 30000, 2**31 - 1), k=2)), chunks[0][1][8:]
        chunks[0] = (b"IHDR", size + rest)
    written = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return content[:8] + written


def video(content: bytes, random: Random) -> bytes:
    """A video with its head or its index changed, or any bytes."""
    index = content.find(b"moov")
    if index > 0 and random.random() < 0.5:
        return content[:index] + any_bytes(content[index : index + 1024], random) + content[index + 1024 :]
    return any_bytes(content, random)
