"""A checkpoint is loaded whole or not at all: every weight accounted for."""

from vjepa_utils.checks import UserError


def check_weights(place, kind, model, weights):
    """ValueError unless `weights`, {name: tensor}, are those of the model, by name and shape.

    place, kind: where they are and what they should be, for the message.
    """
    expected = {name: value.shape for name, value in model.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    wrong = {name for name in expected.keys() & found.keys() if expected[name] != found[name]}
    check_whole(
        place,
        f"it is not a whole {kind}",
        missing=expected.keys() - found,
        unexpected=found.keys() - expected,
        mismatched=wrong,
    )


def check_whole(place, reason, **problems):
    """ValueError, which ends in the reason, if there are problems: {word: names of weights}."""
    for problem, names in problems.items():
        if names:
            raise UserError(
                f"{place} has {len(names)} {problem} weights, such as {min(map(str, names))}: "
                f"{reason}."
            )


def unreadable(place, error):
    """The error to raise for a file or folder that cannot be loaded; its first line is kept."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ValueError(f"{place} cannot be loaded: {reason}")
