"""Arrays in files: several, one after the other, in NumPy's own .npy format, so that equal arrays are equal bytes.

An .npz is a zip file (times, compression, members that cannot be mapped); here nothing but the arrays is written, and
nothing is ever unpickled.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from data_prep.errors import DataError


def save_arrays(path: Path, *arrays: NDArray[Any]) -> None:
    """Write the arrays under a temporary name and rename it, so that nobody ever reads half of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        for array in arrays:
            npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    temporary.replace(path)


def load_arrays(path: Path, count: int) -> list[NDArray[Any]]:
    """The `count` arrays of a file that `save_arrays` wrote.

    Raises:
        DataError: the file is cut off or holds something else.
    """
    try:
        with path.open("rb") as file:
            arrays = [npy.read_array(file, allow_pickle=False) for _ in range(count)]
            if file.read(1):
                raise ValueError("more bytes than its arrays have")
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole file of {count} arrays ({error}); delete it and run again") from error
    return arrays


def rows_in(path: Path) -> int:
    """The length of the first array of a file, without reading it."""
    return len(mapped(path))


def mapped(path: Path) -> NDArray[Any]:
    """The first array of a file, memory-mapped and read-only."""
    try:
        array = npy.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole file of arrays ({error}); delete it and run again") from error
    # A plain view: every slice of np.memmap would carry its Python overhead along.
    return np.asarray(array)


def joined(paths: list[Path], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The first arrays of all files, one after the other, read straight into place: never two copies.

    Raises:
        DataError: a file holds rows of another type, as other settings make them.
    """
    total = np.empty(sum(map(rows_in, paths)), dtype=dtype)
    start = 0
    for path in paths:
        part = mapped(path)
        if part.dtype != dtype:
            raise DataError(f"{path}: made with other settings ({part.dtype}, wanted {dtype}); delete it and run again")
        total[start : start + len(part)] = part
        start += len(part)
    return total
