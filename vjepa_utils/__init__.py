"""Look inside V-JEPA 2: clips to tubelet features to colours.

    import vjepa_utils as vj

    video = vj.read_video("videos/monkey.mp4")
    encoder = vj.load_encoder()                  # or "facebook/vjepa2-vitl-fpc64-256"
    features = encoder.encode(video)             # values: (steps, rows, columns, channels)
    colours = vj.PCAColours().fit(features).colours(features)

Read on in the order of that pipeline: `video` (over `reading`), `encoders`, `features`, `colours`,
`figures`. Beside it a room for each study: `recovery`, what the predictor makes of hidden tokens;
`comparison` with image encoders; `tracking`, points followed through a clip; `actions`, which tell
what happens in a clip; `surprise`, where and when a clip breaks what the predictor expects;
`explorer`, to look around in all of it with the hand.
"""

import lazy_loader

# torch and transformers take seconds to import: only when something needs them; __init__.pyi says
# what is where
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
