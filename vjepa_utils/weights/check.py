"""A checkpoint is loaded whole or not at all: every weight is accounted for."""

from vjepa_utils.checks import UserError


def weight_problems(model, weights):
    """{"missing", "unexpected", "mismatched": names} of weights, {name: tensor}, for a module."""
    expected = model.state_dict()
    shared = expected.keys() & weights.keys()
    return {
        "missing": expected.keys() - shared,
        "unexpected": weights.keys() - shared,
        "mismatched": {name for name in shared if weights[name].shape != expected[name].shape},
    }


def check_whole(place, problems, reason):
    """UserError, which ends in the reason, if there are problems: {word: names of weights}."""
    counts = [
        f"{len(names)} {problem} weights, such as {', '.join(sorted(names)[:3])}"
        for problem, names in problems.items()
        if names
    ]
    if counts:
        raise UserError(f"{place} has {' and '.join(counts)}: {reason}.")


def unreadable(place, error):
    """The error to raise for a file or folder that cannot be loaded; its first line is kept."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{place} cannot be loaded: {reason}")
