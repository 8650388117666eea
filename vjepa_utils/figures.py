"""Figures of a clip and its features. Each returns a matplotlib Figure; `save` and `animate` write files.

A patch is drawn as a patch, frames carry their true numbers, and every figure names its checkpoint.
"""

import numpy as np
from matplotlib.figure import Figure

from vjepa_utils.features import replacing
from vjepa_utils.video import as_video


def _figure(pictures, titles, heading, height=2.2, row_labels=(), aspect=None):
    """A grid of pictures. pictures: rows of arrays or None; titles: the same shape."""
    rows, columns = len(pictures), max(map(len, pictures))
    if aspect is None:
        shape = next(p for row in pictures for p in row if p is not None).shape
        aspect = shape[1] / shape[0]
    inset = 0.25 if row_labels else 0.05
    width = columns * (height * aspect + 0.08) + inset + 0.05
    tall = rows * (height + 0.24) + 0.35
    figure = Figure(figsize=(width, tall), dpi=110, layout="none")
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=dict(
        left=inset / width, right=1 - 0.05 / width, bottom=0.05 / tall, top=1 - 0.55 / tall, wspace=0.08 / (height * aspect), hspace=0.24 / height,
    ))  # fmt: skip
    for i, row in enumerate(axes):
        for j, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
            if j < len(pictures[i]) and pictures[i][j] is not None:
                axis.imshow(pictures[i][j], interpolation="nearest", aspect="auto")
                axis.set_title(titles[i][j], fontsize=8, pad=2)
        if row_labels:
            row[0].set_ylabel(row_labels[i], fontsize=8)
    figure.text(0.05 / width, 1 - 0.08 / tall, heading, fontsize=9, va="top")
    return figure


def _choose(count, most):
    """At most `most` of `count` positions, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _frames_of(video, features):
    """First and second frame of every step: two uint8 arrays (steps, H, W, 3)."""
    position = {int(number): i for i, number in enumerate(video.indices)}
    try:
        first, second = (np.array([position[int(n)] for n in features.frames[:, k]]) for k in (0, 1))
    except KeyError as missing:
        raise ValueError(f"The features cover frame {missing}, which this clip does not hold.") from None
    return video.frames[first], video.frames[second]


def _covered(pair):
    first, second = (int(n) for n in pair)
    return f"frame {first}" if first == second else f"frames {first}+{second}"


def _clip_name(video):
    return video.path.name if video.path else "clip"


def frame_strip(video, most=8):
    """Frames of a clip side by side, with their numbers and times."""
    video = as_video(video)
    chosen = _choose(len(video), most)
    titles = [f"frame {video.indices[i]}, {video.times[i]:.2f} s" for i in chosen]
    return _figure([video.frames[chosen]], [titles], f"{_clip_name(video)}: {len(video)} frames, {video.width}×{video.height}")


def pair_panel(video, features, colours, step=0):
    """Frame i, frame j, both blended, and the colours of the pair: what one tubelet step sees.

    Args:
        video: the clip that was encoded.  features: of it.  colours: a fitted `PCAColours`.  step: which pair.
    """
    video = as_video(video)
    if step not in range(-len(features.frames), len(features.frames)):
        raise ValueError(f"step must be below {len(features.frames)}, the number of steps, not {step}.")
    first, second = (frames[step] for frames in _frames_of(video, features))
    blended = (first.astype(float) + second) / 2 / 255
    i, j = (int(n) for n in features.frames[step])
    titles = [f"frame {i}", f"frame {j}", "both blended", "their features"]
    heading = f"{_clip_name(video)} · {_basis(features, colours)}"
    return _figure([[first, second, blended, colours.colours(features)[step]]], [titles], heading, height=3.2)


def pca_strip(video, features, colours, most=8):
    """Steps of a clip: the first frame of each above the colours of its features, all in one basis."""
    video = as_video(video)
    chosen = _choose(len(features.frames), most)
    frames = _frames_of(video, features)[0]
    painted = colours.colours(features)
    titles = [[f"frame {int(features.frames[s, 0])}" for s in chosen], [_covered(features.frames[s]) for s in chosen]]
    heading = f"{_clip_name(video)} · {_basis(features, colours)}"
    return _figure([frames[chosen], painted[chosen]], titles, heading, row_labels=["clip", "features"])


def compare_strips(video, rows, most=8):
    """Several colourings of a clip below its frames. rows: {label: (features, colours)}, all with the same steps."""
    video = as_video(video)
    features = next(iter(rows.values()))[0]
    chosen = _choose(len(features.frames), most)
    pictures = [_frames_of(video, features)[0][chosen]]
    pictures += [colours.colours(each)[chosen] for each, colours in rows.values()]
    titles = [[_covered(features.frames[s]) for s in chosen]] + [[""] * len(chosen)] * len(rows)
    names = ", ".join(dict.fromkeys(each.encoder for each, _ in rows.values()))
    return _figure(pictures, titles, f"{_clip_name(video)} · {names}", row_labels=["clip", *rows])


def overlay(video, features, colours, step=0, opacity=0.55):
    """The colours of one step laid over its first frame."""
    video = as_video(video)
    frame = _frames_of(video, features)[0][step]
    figure = _figure([[frame]], [[_covered(features.frames[step])]], f"{_clip_name(video)} · {_basis(features, colours)}", height=4)
    height, width = frame.shape[:2]
    figure.axes[0].imshow(colours.colours(features)[step], alpha=opacity, interpolation="nearest", extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="auto")  # fmt: skip
    return figure


def changes(features):
    """How far each token moves from one step to the next: 1 - cosine similarity, float32 (steps - 1, rows, columns)."""
    import torch

    if len(features.values) < 2:
        raise ValueError("Differences over time need at least two steps; encode more frames.")
    x = torch.nn.functional.normalize(features.values, dim=-1)
    return (1 - (x[1:] * x[:-1]).sum(-1)).numpy()


def change_strip(video, features, most=8):
    """Frames above the change of their features since the step before (`changes`), on one scale."""
    video = as_video(video)
    moved = changes(features)
    chosen = _choose(len(moved), most)
    top = max(float(np.percentile(moved, 99)), 1e-6)
    frames = _frames_of(video, features)[0][chosen + 1]
    titles = [[f"frame {int(features.frames[s + 1, 0])}" for s in chosen], [f"steps {s} to {s + 1}" for s in chosen]]
    heading = f"{_clip_name(video)} · {features.encoder} · 1 - cosine of successive steps, black 0, yellow {top:.2f}"
    from matplotlib import colormaps

    heat = colormaps["inferno"](np.clip(moved[chosen] / top, 0, 1))[..., :3]
    return _figure([frames, heat], titles, heading, row_labels=["clip", "change"])


def _basis(features, colours):
    share = 100 * colours.explained_variance_ratio[:3].sum()
    rows, columns = features.grid[1:]
    what = "foreground variance" if colours.foreground else "variance"
    return f"{features.encoder} · {rows}×{columns} patches · 3 components hold {share:.0f} % of the {what}"


def save(figure, path):
    """Write a figure; the file holds no date or version, so the same figure gives the same file."""
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None} if str(path).lower().endswith(".png") else None)


def animate(video, features, colours, path, rate=None):
    """Write an .mp4 or .gif with the frames beside the colours of their step.

    Args:
        rate: frames a second; None takes the clip's own times (their median).
    """
    import av
    from tqdm.auto import tqdm

    video = as_video(video)
    steps = {int(number): step for step, pair in enumerate(features.frames) for number in pair}
    painted = (colours.colours(features) * 255).round().astype(np.uint8)
    if rate is None:
        rate = 1 / np.median(np.diff(video.times)) if len(video) > 1 else 2
    height, width = (side // 2 * 2 for side in features.picture_size)
    scale = max(1, round(360 / height))  # small pictures are enlarged by whole numbers: a patch stays a patch
    height, width = height * scale, width * scale
    gif = str(path).lower().endswith(".gif")
    with replacing(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("gif" if gif else "h264", rate=max(1, round(rate)))
        stream.width, stream.height, stream.pix_fmt = 2 * width, height, "rgb8" if gif else "yuv420p"
        if not gif:
            stream.options = {"crf": "18", "threads": "1"}
            container.metadata["comment"] = f"{_clip_name(video)} · {_basis(features, colours)}"
        for number, frame in zip(tqdm(video.indices, desc="writing", delay=2, leave=False), video.frames, strict=True):
            left = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(width, height).to_ndarray()
            patches = painted[steps[int(number)]]
            row = np.arange(height) * patches.shape[0] // height
            column = np.arange(width) * patches.shape[1] // width
            both = np.concatenate([left, patches[row][:, column]], 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(both), "rgb24")))
        container.mux(stream.encode())
