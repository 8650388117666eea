"""A checkpoint is loaded whole or not at all: every weight is accounted for."""

import math

from vjepa_utils.checks import UserError


def weight_problems(model, weights):
    """{"missing", "unexpected" or "mismatched": names of weights}.

    Args:
        model: the torch module that they are for.
        weights: {name: tensor}.
    """
    expected = model.state_dict()
    return {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "mismatched": [
            name
            for name, value in weights.items()
            if name in expected and value.shape != expected[name].shape
        ],
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


def difference(config, known):
    """(field, its value, the known one) of the first field of a configuration that differs from
    `known`, {field: value}; None where none does.
    """
    for field, value in known.items():
        given = config.get(field, value)
        if isinstance(given, float) and isinstance(value, float):
            same = math.isclose(given, value, rel_tol=1e-6)  # 48/11 is written with fewer digits
        else:
            same = given == value
        if not same:
            return field, given, value
    return None


def unreadable(place, error):
    """The error to raise for a file or folder that cannot be loaded; its first line is kept."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{place} cannot be loaded: {reason}")
