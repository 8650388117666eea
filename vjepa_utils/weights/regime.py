"""What is known of released checkpoints and does not stand in their files: how they were trained,
which of upstream's two encoders they hold, and their licence.
"""

import re
from pathlib import Path
from typing import NamedTuple


class Regime(NamedTuple):
    """How a checkpoint was trained (facebookresearch/vjepa2 at c2963a4, `configs/train`)."""

    frames: tuple[int, ...]  # of a training clip, in pretraining and in the cool-down; () unknown
    rate: float | None  # frames a second
    side: int | None  # of the square pictures in the end
    key: str | None  # of the encoder in a .pt file: "encoder" is online, the others are averages
    licence: str


FEWEST = 8  # frames encoded jointly: with fewer, features are not those of training

KNOWN = {  # the beginning of a name
    # Upstream's conversion reads "encoder", under heads trained on the moving average.
    r"vjepa2-vit[lhg]-fpc\d+-256": Regime((16, 64), 4, 256, "encoder", "MIT"),
    r"vjepa2-vitg-fpc\d+-384": Regime((16, 64), 4, 384, "encoder", "MIT"),
    r"vjepa2_1_vit[bl]_dist": Regime((16,), 4, 384, "ema_encoder", "MIT"),
    r"vjepa2_1_vit[gG]_384": Regime((16,), 4, 384, "target_encoder", "MIT"),
    r"vjepa2\.1-vit-?(b|base|l|large)-": Regime((16,), 4, 384, "ema_encoder", "MIT"),
    r"vjepa2\.1-vit-(giant|gigantic)-": Regime((16,), 4, 384, "target_encoder", "MIT"),
    # Of pairs and of 4 to 16 frames at several rates, the future hidden among others.
    r"vjepa2-demo": Regime((), None, 128, None, "research use, see its card"),
    r"dino-demo": Regime((), None, 128, None, "research use, see its card"),
    r"dinov2": Regime((), None, 518, None, "Apache-2.0"),
    r"dinov3": Regime((), None, None, None, "DINOv3 License"),
}
# Of all of V-JEPA 2 and 2.1 (`max_temporal_keep: 1`).
MASKS = "every mask spans all frames, so the future was never what is hidden"


def regime_of(name: str) -> Regime | None:
    """The regime of a released checkpoint, by its id or the name of its folder; else None."""
    matching = (regime for known, regime in KNOWN.items() if re.match(known, Path(name).name))
    return next(matching, None)


def departures(name: str, frames=None, rate=None, future=False) -> list[str]:
    """Where a call departs from the training of a released checkpoint so that the meaning changes,
    in a few words each: frames encoded jointly, their rate, and whether the future is hidden.
    """
    regime, words = regime_of(name), []
    if not (regime and regime.frames):
        return []
    if future:
        words.append("future hidden: not in training")
    if frames and 1 < frames < FEWEST:
        jointly = "pairs" if frames == 2 else f"{frames} frames at once"
        words.append(f"{jointly}: trained on {regime.frames[0]} frames")
    if rate and not regime.rate / 2 <= rate <= regime.rate * 2:
        words.append(f"{rate:.3g} frames a second, trained on {regime.rate:g}")
    return words
