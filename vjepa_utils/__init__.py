"""Look inside V-JEPA 2: clips to tubelet features to colours.

    import vjepa_utils as vj

    video = vj.read_video("videos/monkey.mp4")
    encoder = vj.load_encoder()                  # or "facebook/vjepa2-vitl-fpc64-256"
    features = encoder.encode(video)             # values: (steps, rows, columns, channels)
    colours = vj.PCAColours().fit(features).colours(features)

Read on in the order of that pipeline: `video` (over `sources`), `encoder` (below it `checkpoints`, `model` and `positions`),
`features`, `colours`, `figures`; beside it `masks` and `recovery`, what the predictor makes of hidden tokens,
`comparison` with image encoders, `tracking`, points followed through a clip (with `track_head` and `tapvid`), and `actions`
and `probes`, which tell what happens in a clip.
"""

import importlib

_HOMES = {
    "Video": "video",
    "read_video": "video",
    "as_video": "video",
    "Encoder": "encoder",
    "load_encoder": "encoder",
    "CHECKPOINTS": "checkpoints",
    "Features": "features",
    "Recovery": "recovery",
    "PCAColours": "colours",
    "Tracks": "tracking",
    "track": "tracking",
    "classify": "actions",
    "train_probe": "probes",
    "Probe": "probes",
}
_MODULES = ("video", "sources", "checkpoints", "encoder", "model", "positions", "features", "masks", "recovery", "colours", "comparison")
_MODULES += "figures", "tracking", "track_head", "tapvid", "actions", "probes"
__all__ = [*_HOMES, *_MODULES]


def __getattr__(name):  # torch and transformers take seconds to import: only when something needs them
    if name in _HOMES:
        return getattr(importlib.import_module(f"vjepa_utils.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"vjepa_utils.{name}")
    raise AttributeError(f"module 'vjepa_utils' has no attribute {name!r}")


def __dir__():
    return __all__
