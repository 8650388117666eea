"""Which frames of a source are on the screen when."""

import re
import warnings
from numbers import Real

import numpy as np

from vjepa_utils.checks import UserError, check_counts, is_whole


def check_rate(every, fps):
    """UserError unless one of them is None, and the other a value that it may have."""
    check_counts(every=every)
    if fps is None:
        return
    if every is not None:
        raise UserError("every and fps exclude each other: give one of them.")
    if isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < fps <= 1000:
        raise UserError(f"fps must be frames a second, above 0 and at most 1000, not {fps!r}.")


def first_frame(start, source, path):
    """Number of the first frame, and the moment in seconds."""
    beyond = f"start {start} is beyond the end of {path}"
    if isinstance(start, str) and re.fullmatch(r"(\d+\.?\d*|\.\d+)s", start):
        moment = float(start[:-1])
        if moment >= source.end:
            raise UserError(f"{beyond}, which lasts {source.end:.2f} s.")
        return int(_on_screen(moment, source, path, 1e-3)), moment
    if not is_whole(start, 0):
        raise UserError(f'start must be a frame number or seconds such as "5.2s", not {start!r}.')
    if start >= len(source.times):
        raise UserError(f"{beyond}, which has {len(source.times)} frames.")
    return int(start), source.times[start]


def at_rate(fps, moment, count, source, path):
    """Numbers of the frames on the screen at a moment and so often in a second from then on."""
    steps = np.arange(max(1, np.ceil((source.end - moment) * float(fps) - 1e-6)))[:count]
    numbers = _on_screen(moment + steps / float(fps), source, path, source.tick / 2)
    if repeated := len(numbers) - len(np.unique(numbers)):
        seldom = f"{path} changes less often than {fps:g} times a second: {repeated} of the"
        warnings.warn(f"{seldom} {len(numbers)} frames repeat the one before.", stacklevel=3)
    return numbers


def _on_screen(moments, source, path, slack):
    """Numbers of the frames that are on the screen at moments in seconds."""
    later = np.diff(source.times)
    if (later < 0).any():
        where = f"time stamps that go backwards, from frame {later.argmin()} on"
        raise UserError(f"{path} has {where}: take frames by their numbers.")
    if source.no_clock:
        warnings.warn(f"{path}: {source.no_clock}.", stacklevel=4)
    return np.searchsorted(source.times, moments + slack, side="right") - 1
