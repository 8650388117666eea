"""Look inside V-JEPA 2: clips to tubelet features to colours.

    import vjepa_utils as vj

    video = vj.read_video("videos/monkey.mp4")
    encoder = vj.load_encoder()                  # or "facebook/vjepa2-vitl-fpc64-256"
    features = encoder.encode(video)             # values: (steps, rows, columns, channels)
    colours = vj.PCAColours().fit(features).colours(features)

Read on in the order of that pipeline: `video` (over `reading`), `encoders`, `features`, `colours`,
`figures`. Each study has a folder of its own: `recovery`, what the predictor makes of hidden
tokens; `comparison` with image encoders; `tracking`, points tracked through a clip; `actions`,
action recognition; `surprise`, where and when a clip violates what the predictor expects;
`explorer`, to explore all of it interactively.
"""

import lazy_loader

# torch and transformers take seconds to import: names are imported when they are first used, and
# __init__.pyi says from where
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
