"""The error that a user reads, and checks of arguments that several modules make."""

import importlib
from types import ModuleType
from typing import TypeGuard

import numpy as np


class UserError(ValueError):
    """What a user gave cannot be used: one sentence that names it and says what to do."""


def require(package: str, extra: str) -> ModuleType:
    """Import a package of one of the extras; UserError with what to install if it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError:
        remedy = f'pip install "vjepa-utils[{extra}]"'
        raise UserError(f"{package} is not installed: {remedy}.") from None


def is_whole(value: object, least: int | None = None) -> TypeGuard[int]:
    """Whether a value is a whole number (no bool), Python's or numpy's, of at least `least`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and (least is None or value >= least)


def check_counts(**values: int | None) -> None:
    """UserError unless each argument is None or a whole number of at least 1."""
    for name, value in values.items():
        if value is not None and not is_whole(value, 1):
            raise UserError(f"{name} must be a whole number of at least 1, not {value!r}.")


def check_inside(point: tuple[float, float], height: int, width: int) -> None:
    """UserError if a point (x, y), in pixels, lies outside a picture."""
    x, y = point
    if not (0 <= x <= width and 0 <= y <= height):  # NaN is outside too
        size = f"which is {width}×{height} pixels"
        raise UserError(f"The point ({x:g}, {y:g}) lies outside the picture, {size}.")
