"""Pickles of arrays: everything that Caffe2 wrote is read, and nothing else is looked up, let alone run."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nlnet.errors import CheckpointError
from nlnet.weights import files
from nlnet.weights.files import is_torch_file, read_arrays


def write(content: Any, path: Path, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def python2_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """What cPickle of Python 2 writes at protocol 2: byte strings, and NumPy's modules by their old names."""

    def string(data: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(data)) + data  # BINSTRING

    out = b"\x80\x02}("
    for name, array in arrays.items():
        shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
        dtype = b"cnumpy\ndtype\n(" + string(array.dtype.str[1:].encode()) + b"K\x00K\x01tR"
        dtype += b"(K\x03" + string(array.dtype.str[:1].encode()) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        out += string(name.encode())
        out += b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + string(b"b") + b"tR"
        out += b"(K\x01" + shape + dtype + b"\x89" + string(array.tobytes()) + b"tb"
    return out + b"u."


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("nested", [True, False])
def test_arrays_are_read_to_the_bit(protocol: int, nested: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "conv1_w": generator.standard_normal((4, 3, 1, 7, 7), dtype=np.float32),
        "fortran": np.asfortranarray(generator.standard_normal((3, 4))),
        "big endian": generator.standard_normal(5).astype(">f4"),
        "steps": np.arange(3),
        "none": np.zeros((0, 3), np.float32),
    }
    other = {"lr": np.float32(0.1), "model_iter": 400000, "note": "text", "more": [1, None]}
    content = {"blobs": {**arrays, **other}} if nested else {**arrays, **other}
    read = read_arrays(write(content, tmp_path / "model.pkl", protocol))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name].numpy(), array)
        read[name].add_(1)  # writable


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<i8"])
def test_pickles_of_python_2_are_read(kind: str, tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    path = tmp_path / "model.pkl"
    path.write_bytes(python2_pickle({"conv1_w": array, "pred_b": array[0, 0]}))
    read = read_arrays(path)
    np.testing.assert_array_equal(read["conv1_w"].numpy(), array)
    np.testing.assert_array_equal(read["pred_b"].numpy(), array[0, 0])
    assert np.dtype("f4").byteorder == "="  # the shared type is as it was


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("wrap", [lambda bomb: {"blobs": {"conv1_w": bomb}}, lambda bomb: bomb, lambda bomb: [bomb]])
def test_a_pickle_that_would_run_something_is_refused(
    protocol: int, wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    target = tmp_path / "exploded"
    for bomb in (
        Call(os.system, f"touch '{target}'"),
        Call(os.mkdir, str(target)),
        Call(eval, f"open({str(target)!r}, 'w')"),
        Call(np.save, str(target), 1),
        Call(np.fromfile, str(target)),
        Call(torch.save, 1, str(target)),
    ):
        path = write(wrap(bomb), tmp_path / "model.pkl", protocol)
        with pytest.raises(CheckpointError, match=r"model\.pkl: .*read safely \(it names .*would have to be run"):
            read_arrays(path)
    assert os.listdir(tmp_path) == ["model.pkl"]


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",  # a path of attributes
        b"cnlnet.weights.files\nread_plain\n.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"\x82\x01.",  # an extension code
        b"Pid\n.",  # a persistent id
    ],
)
def test_hand_made_pickles_are_refused(code: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(code)
    with pytest.raises(CheckpointError, match=r"model\.pkl: not a pickle of arrays"):
        read_arrays(path)


def test_what_a_pickle_is_handed_cannot_be_changed_by_it(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cnumpy\ndtype\n(N}S'__defaults__'\n(S'O'\ntstb.")  # setattr(dtype, "__defaults__", ("O",))
    before = files._number_type.__defaults__
    with pytest.raises(CheckpointError):
        read_arrays(path)
    assert files._number_type.__defaults__ == before


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = write({"conv1_w": np.array([{}, []], dtype=object)}, tmp_path / "model.pkl")
    with pytest.raises(CheckpointError, match="not of numbers"):
        read_arrays(path)


@pytest.mark.parametrize("content", [{}, [], 3, {"blobs": {}}, {"blobs": 3}, {"lr": 0.1}])
def test_a_pickle_without_arrays_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no arrays by name"):
        read_arrays(write(content, tmp_path / "model.pkl"))


def test_truncated_and_damaged_pickles_are_refused(tmp_path: Path) -> None:
    path = write({"blobs": {"conv1_w": np.arange(40, dtype=np.float32)}}, tmp_path / "model.pkl")
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 5):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError):
            read_arrays(path)
    with pytest.raises(CheckpointError):
        read_arrays(tmp_path / "missing.pkl")


@pytest.mark.parametrize("new_format", [True, False])
def test_files_of_torch_are_told_from_pickles(new_format: bool, tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "a", _use_new_zipfile_serialization=new_format)
    assert is_torch_file(tmp_path / "a")
    for protocol in (0, 2, 4):
        assert not is_torch_file(write({"blobs": {}}, tmp_path / "b", protocol))
