"""Which clips are of one recording, and how clips are divided so that none is on both sides."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from vjepa_utils.checks import UserError

# Of the distance of steps from their mean: nearer ones show the same frames. Clips compressed again
# are 0.01 away, pairs with one frame in common 0.07, all others of the shipped clips 0.28 or more.
SAME = 0.1


def recordings_of(names: list[str], steps: list[torch.Tensor]) -> np.ndarray:
    """Number of the recording of each clip, int (clips,): those of one name are one recording, and
    those that show the same frames, with a warning. steps: as for `showing_the_same`.
    """
    names = np.array(names)
    count, numbers = connected_components(showing_the_same(steps) | (names[:, None] == names))
    if count < len({*names}):
        warnings.warn(
            f"Recordings that show the same frames are never divided: {len({*names})} of them "
            f"count as {count}.",
            stacklevel=3,
        )
    return numbers


def showing_the_same(steps: list[torch.Tensor]) -> np.ndarray:
    """Which clips show a frame of which others, up to compression, by the mean features of their
    steps, [(steps, channels)]: bool (clips, clips).
    """
    together = torch.cat(steps).double()
    owner = np.repeat(np.arange(len(steps)), [len(each) for each in steps])
    near = SAME * (together - together.mean(0)).square().sum(1).mean().sqrt()
    close = [(torch.cdist(each.double(), together) <= near).any(0).numpy() for each in steps]
    return np.array([np.isin(np.arange(len(steps)), owner[each]) for each in close])


def hold_out(
    labels: list[str], recordings: list[str] | np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of clips to train on and to hold out, about a third, of every class, none of one
    recording on both sides: two int arrays. UserError: there is a class of a single recording.
    """
    labels = np.asarray(labels)
    names, counts = np.unique(np.unique([labels, recordings], axis=1)[0], return_counts=True)
    if counts.min() > 1:
        folds = StratifiedGroupKFold(min(3, counts.min()), shuffle=True, random_state=seed)
        for seen, held in folds.split(labels, labels, recordings):
            if len({*labels[seen]}) == len({*labels[held]}) == len(names):
                return seen, held
    raise UserError(
        f"Clips of the class {str(names[counts.argmin()])!r} cannot be both trained on and held "
        f"out, as the number of their recordings is {counts.min()}: add clips of others."
    )


def of_other_recordings(recordings: np.ndarray, seed: int) -> np.ndarray:
    """For each target the position of one of another recording, the same one for all of its own:
    int (targets,).
    """
    random = np.random.default_rng(seed)
    order = random.permutation(np.unique(recordings))
    donors = dict(zip(order, np.roll(order, 1), strict=True))
    return np.array([random.choice(np.flatnonzero(recordings == donors[r])) for r in recordings])
