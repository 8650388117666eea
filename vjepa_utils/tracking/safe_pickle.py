"""Pickles of arrays and plain containers, read safely.

A pickle can run any code. This reader admits only plain containers, strings, bytes, numbers and
numpy arrays, and names what it refused.
"""

from __future__ import annotations

import codecs
import pickle

import numpy as np

from vjepa_utils.checks import UserError
from vjepa_utils.video import File

ARRAY = "the class numpy.ndarray, as a name only: a pickle that calls it fails"


class Refused(Exception):
    """What a pickle asked for and may not have."""


def _empty_array(kind, shape, code):
    """Where a pickled array begins; its state follows."""
    if kind is not ARRAY:
        raise Refused("an array of a class other than numpy.ndarray")
    return np.empty(0, np.uint8)


def _array_in_band(buffer, dtype, shape, order, axes=None):
    """How protocol 5 writes arrays; order "K" gives them with their axes in the order of memory."""
    array = np.frombuffer(buffer, dtype)
    if axes is not None:
        return array.reshape(shape).transpose(axes)
    return array.reshape(shape, order=order)


def _scalar(dtype, data):
    return np.frombuffer(data, dtype)[0]


def _bytes(text, encoding):
    """How old protocols write bytes."""
    if encoding != "latin1":
        raise Refused(f"text in {encoding!r}")
    return codecs.encode(text, encoding)


def _dtype(code, *flags):
    dtype = np.dtype(code)
    if dtype.hasobject and code not in ("O", "O8"):
        raise Refused(f"the dtype {code!r}")
    return dtype


ADMITTED = {("numpy", "ndarray"): ARRAY, ("numpy", "dtype"): _dtype, ("_codecs", "encode"): _bytes}
for _core in ("numpy.core", "numpy._core"):
    ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _empty_array
    ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    ADMITTED[f"{_core}.numeric", "_frombuffer"] = _array_in_band


class _Restricted(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in ADMITTED:
            raise Refused(f"{module}.{name}")
        return ADMITTED[module, name]

    def persistent_load(self, key):
        raise Refused("an object outside the file")


def load_pickle(path: File) -> object:
    """What a pickle of arrays and plain containers holds.

    Raises:
        UserError: names what was refused, or says that the file is damaged.
    """
    try:
        with open(path, "rb") as file:
            return _Restricted(file).load()
    except Refused as error:
        raise UserError(
            f"{path} is refused: it asks for {error}, and only arrays and plain containers are "
            "admitted."
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged file raises errors of any kind
        raise UserError(
            f"{path} is no whole pickle: it is cut off, damaged or of another kind "
            f"({type(error).__name__})."
        ) from None
