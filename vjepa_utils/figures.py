"""Figures of a clip and its features. Each returns a matplotlib Figure; `save` and `animate` write files.

A patch is drawn as a patch, frames carry their true numbers, and every figure names its checkpoint.
"""

import textwrap
from fractions import Fraction

import av
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from vjepa_utils.colours import PCAColours
from vjepa_utils.comparison.one_grid import similarity, step_of
from vjepa_utils.features import replacing
from vjepa_utils.recovery.masks import pixels
from vjepa_utils.video import as_video

GREY = 205  # of 255: what is hidden in a frame, and what is visible in a map of errors
CURVES = {"prediction": ("#c1272d", "o-"), "mean": ("#777777", "s--"), "nearest": ("#0071a7", "^--"), "same place": ("#3a8a3a", "v--")}


def _figure(pictures, titles, heading, height=2.2, labels=None):
    """Rows of pictures of one shape, each with its title; `labels` name the rows."""
    rows, columns = len(pictures), len(pictures[0])
    tall, wide = pictures[0][0].shape[:2]
    height = min(height, 24 / columns * tall / wide)  # at most 24 inches wide
    inset, gap, above = 0.25 if labels else 0.05, 0.08, 0.24  # inches
    width = inset + columns * (height * wide / tall + gap)
    lines = textwrap.wrap(heading, max(20, int(width / 0.077)))
    head = 0.12 + 0.15 * len(lines)
    size = width, head + rows * (height + above)
    figure = Figure(figsize=size, dpi=110)
    for i in range(rows):
        for j in range(columns):
            left, top = inset + j * (height * wide / tall + gap), head + i * (height + above) + above
            box = left / size[0], 1 - (top + height) / size[1], height * wide / tall / size[0], height / size[1]
            axis = figure.add_axes(box, xticks=[], yticks=[], frame_on=False)
            enlarged = pictures[i][j].shape[0] < height * figure.dpi  # a patch stays a patch; a frame is made smaller smoothly
            axis.imshow(pictures[i][j], interpolation="nearest" if enlarged else "antialiased", aspect="auto")
            axis.set_title(titles[i][j], fontsize=8, pad=2)
            if labels and j == 0:
                axis.set_ylabel(labels[i], fontsize=8)
    figure.text(0.05 / size[0], 1 - 0.08 / size[1], "\n".join(lines), fontsize=9, va="top")
    return figure


def _choose(count, most):
    """At most `most` of `count` positions, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _pick(video, numbers):
    """Frames by their numbers in the file, decoding no others: uint8 (n, H, W, 3)."""
    numbers = np.array([int(n) for n in numbers])
    missing = np.setdiff1d(numbers, video.indices)
    if len(missing):
        raise ValueError(f"The features cover frame {missing[0]}, which this clip does not hold.")
    return video.at(np.searchsorted(video.indices, numbers))


def _check(step, features):
    if step not in range(-len(features.frames), len(features.frames)):
        raise ValueError(f"step must be below {len(features.frames)}, the number of steps, not {step}.")
    return step


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
    heading = f"{_clip_name(video)}: {len(video)} frames, {video.width}×{video.height}"
    return _figure([_pick(video, video.indices[chosen])], [titles], heading)


def pair_panel(video, features, colours, step=0):
    """Frame i, frame j, both blended, and the colours of the pair: what one tubelet step sees.

    Args:
        video: the clip that was encoded.  features: of it.  colours: a fitted `PCAColours`.  step: which pair.
    """
    video = as_video(video)
    first, second = _pick(video, features.frames[_check(step, features)])
    blended = (first.astype(float) + second) / 2 / 255
    i, j = (int(n) for n in features.frames[step])
    titles = [f"frame {i}", f"frame {j}", "both blended", "their features"]
    heading = f"{_clip_name(video)} · {_basis(features, colours)}"
    return _figure([[first, second, blended, colours.colours(features)[step]]], [titles], heading, height=3.2)


def pca_strip(video, features, colours, most=8):
    """Steps of a clip: the first frame of each above the colours of its features, all in one basis."""
    return compare_strips(video, features, {"features": colours.colours(features)}, most, _basis(features, colours))


def compare_strips(video, features, rows, most=8, about=None):
    """Several colourings of the same steps below their frames.

    Args:
        rows: {label: colours}, each (steps, rows, columns, 3), from 0 to 1.  about: ends the heading; None names the encoder.
    """
    video = as_video(video)
    chosen = _choose(len(features.frames), most)
    pictures = [_pick(video, features.frames[chosen, 0])] + [painted[chosen] for painted in rows.values()]
    titles = [[f"frame {int(features.frames[s, 0])}" for s in chosen]]
    titles += [[_covered(features.frames[s]) for s in chosen]] * len(rows)
    return _figure(pictures, titles, f"{_clip_name(video)} · {about or features.encoder}", labels=["clip", *rows])


def encoders_strip(video, features, most=6):
    """What several encoders make of the same pairs of frames: a row for each, in its own basis over all its steps.

    The three colours of each encoder are put into the order and sign that follow the first encoder's best
    (`PCAColours.match`); the heading says how much of the variance they hold, and how well they follow (r).

    Args:
        features: {name: Features} on one grid, as `comparison.on_one_grid` gives them.
    """
    first, rows, about = None, {}, []
    for name, each in features.items():
        colours = PCAColours().fit(each)
        share = f"{name}: {100 * colours.explained_variance_ratio[:3].sum():.0f} % of the variance"
        if first is None:
            first = colours, each
        else:
            colours.match(each, *first)
            share += f", r {' '.join(f'{r:.2f}' for r in colours.matched)}"
        rows[name.split("/")[-1]] = colours.colours(each)
        about.append(share)
    grid = "{}×{} patches".format(*first[1].grid[1:])
    return compare_strips(video, first[1], rows, most, " · ".join([grid, "each in its own basis", *about]))


def similarity_strip(video, features, point, frame, most=6):
    """Cosine of every token with the one under a point, over the clip, a row for each encoder.

    Each row has its own scale, as encoders differ in how alike all their tokens are: black is its 5th percentile, yellow 1.

    Args:
        features: {name: Features} on one grid.  point: (x, y) in pixels of the clip.  frame: its file frame number.
    """
    video, base = as_video(video), next(iter(features.values()))
    asked, rows, about = step_of(base, frame), {}, []
    chosen = np.union1d(_choose(len(base.frames), most), asked)
    if len(chosen) > most:  # in place of its nearest neighbour
        others = chosen[chosen != asked]
        chosen = np.setdiff1d(chosen, others[np.abs(others - asked).argmin()])
    for name, each in features.items():
        alike = similarity(each, point, frame)
        low = float(np.percentile(alike, 5))
        rows[name.split("/")[-1]] = colormaps["inferno"](np.clip((alike - low) / max(1 - low, 1e-6), 0, 1))[chosen, ..., :3]
        about.append(f"{name} {low:.2f}")
    shown = [frame if s == asked else int(base.frames[s, 0]) for s in chosen]
    titles = [[f"frame {n}" for n in shown]] + [[_covered(base.frames[s]) for s in chosen]] * len(rows)
    asked_for = f"cosine with the token at ({point[0]:.4g}, {point[1]:.4g}) of frame {frame}"
    heading = f"{_clip_name(video)} · {asked_for}, yellow 1, black: {', '.join(about)}"
    figure = _figure([_pick(video, shown), *rows.values()], titles, heading, labels=["clip", *rows])
    mark = figure.axes[int(np.flatnonzero(chosen == asked)[0])]
    mark.plot(point[0] - 0.5, point[1] - 0.5, "o", markersize=9, markerfacecolor="none", markeredgecolor="white", markeredgewidth=3)
    mark.plot(point[0] - 0.5, point[1] - 0.5, "o", markersize=9, markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.2)
    return figure


def overlay(video, features, colours, step=0, opacity=0.55):
    """The colours of one step laid over its first frame."""
    video = as_video(video)
    frame = _pick(video, features.frames[[_check(step, features)], 0])[0]
    heading = f"{_clip_name(video)} · {_basis(features, colours)}"
    figure = _figure([[frame]], [[_covered(features.frames[step])]], heading, height=5)
    whole = (-0.5, frame.shape[1] - 0.5, frame.shape[0] - 0.5, -0.5)
    figure.axes[0].imshow(colours.colours(features)[step], alpha=opacity, interpolation="nearest", extent=whole, aspect="auto")
    return figure


def changes(features):
    """How far each token moves from one step to the next: 1 - cosine similarity, float32 (steps - 1, rows, columns)."""
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
    frames = _pick(video, features.frames[chosen + 1, 0])
    titles = [[f"frame {int(features.frames[s + 1, 0])}" for s in chosen], [f"steps {s} to {s + 1}" for s in chosen]]
    heading = f"{_clip_name(video)} · {features.encoder} · 1 - cosine of successive steps, black 0, yellow {top:.2f}"
    heat = colormaps["inferno"](np.clip(moved[chosen] / top, 0, 1))[..., :3]
    return _figure([frames, heat], titles, heading, labels=["clip", "change"])


def recovery_strip(video, recovery, most=6):
    """Hidden region, features of the whole clip, those of the visible tokens with the prediction filled in, and its cosine.

    All colours are in one basis, fitted on the layer-normalised features of the whole clip.

    Args:
        video: the clip that was encoded.  recovery: what `Encoder.recover` gave, a `Recovery` or {name of the mask: Recovery}.
    """
    video, every = as_video(video), recovery if isinstance(recovery, dict) else {"hidden": recovery}
    whole = next(iter(every.values())).whole
    chosen, colours = _choose(len(whole.frames), most), PCAColours().fit(whole)
    frames = _pick(video, whole.frames[chosen, 0])
    veiled = (0.85 * GREY + 0.15 * frames.mean(-1, keepdims=True)).astype(np.uint8)
    rows, about = [], []
    for name, found in every.items():
        share = f"{name} {100 * found.hidden.mean():.0f} %"
        where = pixels(found.hidden[chosen], video.height, video.width)[..., None]
        rows.append((share, np.where(where, veiled, frames)))
        if len(rows) == 1:
            rows.append(("whole clip", colours.colours(whole)[chosen]))
        rows.append(("filled in", colours.colours(found.filled)[chosen]))
        cosine = found.on_grid(found.cosine)[chosen, ..., None]
        heat = colormaps["inferno"](np.clip(np.nan_to_num(cosine[..., 0]), 0, 1))[..., :3]
        rows.append(("cosine", np.where(np.isnan(cosine), GREY / 255, heat)))
        means = ", ".join(f"{guess} {mean:.2f}" for guess, mean in found.means().items() if mean == mean)
        about.append(f"{share}: mean cosine of {means}")
    titles = [[_covered(whole.frames[s]) for s in chosen]] * len(rows)
    heading = [_clip_name(video), _basis(whole, colours), *about, "cosine from black, 0 or less, to yellow, 1; grey where visible"]
    height = 2.2 if len(every) == 1 else 1.6
    return _figure([pictures for _, pictures in rows], titles, " · ".join(heading), height, [label for label, _ in rows])


def recovery_curves(recoveries, about):
    """Mean cosine against how much is hidden and how far ahead; bars show the spread (standard deviation) over the list.

    Args:
        recoveries: one for each seed or clip, what `Encoder.recover` gave for {share: mask, …, "future": a `masks.future`}.
        about: what they are, for the heading.
    """
    futures = [found["future"] for found in recoveries]
    steps = np.arange(len(futures[0].hidden))[:, None, None]
    last = int(steps[~futures[0].hidden.any((1, 2))].max())  # visible step
    by_share = {100 * share: [found[share].means() for found in recoveries] for share in recoveries[0] if share != "future"}
    by_step = {ahead: [found.means(where=steps == last + ahead) for found in futures] for ahead in range(1, len(steps) - last)}
    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, table in zip(axes, (by_share, by_step), strict=True):
        apart = (max(table) - min(table) or 1) / 80  # so that bars do not cover each other
        for place, (name, (colour, marker)) in enumerate(CURVES.items()):
            values = np.array([[means[name] for means in each] for each in table.values()])  # (points, recoveries)
            x = np.array([*table]) + (place - 1.5) * apart
            axis.errorbar(x, values.mean(1), values.std(1), fmt=marker, color=colour, label=name, markersize=5, elinewidth=1)
        axis.set_xticks([*table])
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    axes[0].set(xlabel="tokens hidden, %", ylabel="mean cosine with the target")
    axes[1].set(xlabel=f"steps into the future, {last + 1} visible")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(CURVES), frameon=False, fontsize=8)
    heading = f"{futures[0].whole.encoder} · {about} · baselines copy features that saw the whole clip"
    figure.suptitle(heading, fontsize=9, x=0.01, ha="left")
    return figure


def action_bars(video, found, most=6):
    """Frames that a `Classification` was made from, above bars of its likeliest classes."""
    video = as_video(video)
    numbers = np.unique(found.frames)
    numbers = numbers[_choose(len(numbers), most)]
    aspect, count = video.height / video.width, len(found.labels)
    width, below = 9.5, 0.34 + 0.27 * count  # inches
    tall = min(width / len(numbers) * aspect, 3.2)
    lines = textwrap.wrap(" · ".join(filter(None, [_clip_name(video), found.name, _used(found), found.remark])), 130)
    figure = Figure(figsize=(width, tall + below + 0.55 + 0.17 * len(lines)), dpi=110, layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=[tall, below])
    axes = rows[0].subgridspec(1, len(numbers)).subplots(squeeze=False).flat
    for axis, number, frame in zip(axes, numbers, _pick(video, numbers), strict=True):
        axis.imshow(frame)
        axis.set_axis_off()
        axis.set_title(f"frame {number}", fontsize=8, pad=2)
    axis = figure.add_subplot(rows[1])
    places = np.arange(count)[::-1]
    bars = axis.barh(places, found.probabilities, 0.7, color=["#c1272d", *["#bbbbbb"] * (count - 1)])
    axis.bar_label(bars, [f"{share:.1%}" for share in found.probabilities], padding=3, fontsize=8)
    axis.set_yticks(places, [textwrap.shorten(name, 60) for name in found.labels], fontsize=9)
    axis.set(xlim=(0, 1.08), xticks=[])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(left=False)
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left")
    return figure


def _used(found):
    segments, views = len(found.frames), len(found.logits) // len(found.frames)
    return f"{found.frames.size} frames" + f" in {segments} segments" * (segments > 1) + f", {views} views" * (views > 1)


def confusion(truth, predicted, heading):
    """How often each class (a row) was taken for each other (a column), in per cent of the row.

    Args:
        truth, predicted: lists of class names.  heading: names the encoder and what was measured.
    """
    classes = list(dict.fromkeys([*truth, *predicted]))  # as they first come
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, tuple([classes.index(name) for name in names] for names in (truth, predicted)), 1)
    share = counts / counts.sum(1, keepdims=True).clip(1)
    side = 1.9 + 0.42 * len(classes)
    figure = Figure(figsize=(side + 0.4, side), dpi=110, layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Reds", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 0.6 else "black"
        axis.text(column, row, f"{100 * share[row, column]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(classes)), [f"{name} ({n})" for name, n in zip(classes, counts.sum(1), strict=True)], fontsize=8)
    axis.set(xlabel="predicted", ylabel="true (clips)")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.suptitle("\n".join(textwrap.wrap(heading, int(side / 0.075))), fontsize=9, x=0.01, ha="left")
    return figure


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
    """Write an .mp4 or .gif with the frames that the features cover beside the colours of their step.

    Args:
        rate: frames a second; None takes that of the clip's times.
    """
    video = as_video(video)
    write_film(_side_by_side(video, features, colours), path, rate or _rate(video))


def _rate(video):
    """Frames a second by the clip's times."""
    return 1 / np.median(np.diff(video.times)) if len(video) > 1 else 2


def write_film(pictures, path, rate):
    """Pictures uint8 (height, width, 3) of one size with even sides to an .mp4 or .gif."""
    with replacing(path) as temporary:
        if str(path).lower().endswith(".gif"):
            first, *rest = (Image.fromarray(picture) for picture in pictures)
            first.save(temporary, save_all=True, append_images=rest, duration=1000 / rate, loop=0)
            return
        with av.open(str(temporary), "w") as container:
            stream = container.add_stream("h264", rate=Fraction(float(rate)).limit_denominator(1001))
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "threads": "1"}
            for picture in pictures:
                if not stream.codec_context.is_open:
                    stream.height, stream.width = picture.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())


def _side_by_side(video, features, colours):
    """Each frame beside its colours below a line of text: uint8 (height, width, 3), even sides."""
    step_of = {int(number): step for step, pair in enumerate(features.frames) for number in pair}
    painted = (colours.colours(features) * 255).round().astype(np.uint8)
    rows, columns = features.grid[1:]
    side = max(2, 2 * round(min(360 / rows, 1920 / columns) / 2))  # of a patch as drawn, whole and even: a patch stays a patch
    size, bar, font = (columns * side, rows * side), 28, ImageFont.truetype(findfont("DejaVu Sans"), 13)
    for number in tqdm(sorted(step_of), desc="drawing", delay=2, leave=False):
        frame = _pick(video, [number])[0]
        picture = Image.new("RGB", (2 * size[0], size[1] + bar), "white")
        picture.paste(Image.fromarray(frame).resize(size), (0, bar))
        picture.paste(Image.fromarray(painted[step_of[number]]).resize(size, Image.Resampling.NEAREST), (size[0], bar))
        text = f"{_clip_name(video)}, frame {number} · {_basis(features, colours)}"
        ImageDraw.Draw(picture).text((8, 5), text, "black", font)
        yield np.asarray(picture)


def track_strip(video, tracks, most=6, tail=8):
    """Frames of a clip with its tracks drawn in: a dot where a point is seen, a ring where it is hidden, a tail of where it was.

    Args:
        video: the clip.  tracks: of it, what `track` gave.  most: frames.  tail: its length in frames of the clip.
    """
    video = as_video(video)
    chosen = _choose(len(tracks.frames), most)
    drawn = [_draw_tracks(frame, tracks, i, tail) for i, frame in zip(chosen, _pick(video, tracks.frames[chosen]), strict=True)]
    titles = [f"frame {tracks.frames[i]}" for i in chosen]
    heading = f"{_clip_name(video)} · {len(tracks.xy)} points followed · {tracks.encoder} · dot: seen, ring: hidden"
    return _figure([drawn], [titles], heading, height=3.2)


def animate_tracks(video, tracks, path, tail=8, rate=None):
    """Write an .mp4 or .gif of the clip with its tracks, drawn as in `track_strip`, at most 1280 pixels wide or high.

    Args:
        rate: frames a second; None takes that of the clip's times.
    """
    video = as_video(video)
    numbers = enumerate(tqdm(tracks.frames, desc="drawing", delay=2, leave=False))
    write_film((np.asarray(_draw_tracks(_pick(video, [n])[0], tracks, i, tail)) for i, n in numbers), path, rate or _rate(video))


def _draw_tracks(frame, tracks, place, tail):
    """One frame, 640 to 1280 pixels at its longer side and even, with the tracks up to it: uint8 (height, width, 3).

    A point has the colour of where it was picked: hue by its angle from the middle of all points, so that neighbours are alike
    and a track that went astray stands out.
    """
    longer = max(frame.shape[:2])
    scale = min(1280, max(640, longer)) / longer
    width, height = (2 * max(1, round(side * scale / 2)) for side in frame.shape[1::-1])
    fine = 2  # drawn twice as large and made smaller: smooth lines
    grey = frame * 0.75 + 255 * 0.06  # a little dimmed, for the colours to show
    canvas = Image.fromarray(grey.astype(np.uint8)).resize((width * fine, height * fine), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    xy = tracks.xy * np.array([width, height]) / np.array(tracks.size[::-1]) * fine
    away = tracks.queries[:, 1:] - tracks.queries[:, 1:].mean(0)
    colours = (colormaps["hsv"]((np.arctan2(away[:, 1], away[:, 0]) / (2 * np.pi)) % 1)[:, :3] * 255).astype(int)
    radius = max(3.0, min(width, height) / 110) * fine
    jump = 0.15 * max(width, height) * fine  # from one frame to the next: a point found again elsewhere leaves no line
    for path, seen, colour in zip(xy, tracks.visible, colours, strict=True):
        colour = tuple(int(c) for c in colour)
        for past in range(max(1, place - tail + 1), place + 1):
            if seen[past] and seen[past - 1] and np.linalg.norm(path[past] - path[past - 1]) < jump:
                thick = max(1, round(radius * 0.7 * (1 - (place - past) / (tail + 1))))
                pen.line([*path[past - 1], *path[past]], colour, thick)
        x, y = path[place]
        if seen[place]:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], colour, "black", fine)
        else:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], None, colour, 2 * fine)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))
