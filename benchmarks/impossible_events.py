"""Does surprise detect the impossible clip of a pair? python -m benchmarks.impossible_events

Of a pair the impossible clip should have the larger surprise, by its mean and by its largest value
over time of the error, mean over the picture (L1, as in Garrido et al. 2025, arXiv 2502.11831);
accuracy in per cent over pairs with 95 % Wilson intervals; equal values count half. Chance is 50 %.

Localisation, in the impossible clips of rendered pairs: the area under the ROC curve, mean over
pairs ± half of its 95 % interval; chance is 0.5. "where": in the two steps from the event on, the
errors of tokens that show a thing of the event (at least a quarter of their area) against those of
tokens that show none. "when": the errors, mean over the picture, of those two steps
against those of all other steps. Pixels have no features: their error is the difference of frames.

    python -m benchmarks.impossible_events --into docs/surprise.md
    python -m benchmarks.impossible_events --pairs FILE.csv --encoder facebook/vjepa2-vitl-fpc64-256

FILE.csv has the columns possible and impossible, clips or folders of images, such as those of
IntPhys or InfLevel, relative to the file, and kind if there are several.
"""

import argparse
import csv
import os
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import random_weights
from demo.render.impossible import KINDS, pairs

SIDE = 128
EVENT = 2  # steps from the onset on
SHARE = 0.25  # of a token that must show a thing
COLUMNS = "row", "kind", "mean", "largest", "where", "when", "error"
ROWS = "prediction", "last step", "mean", "pixels"


def wilson(right, total):
    """95 % interval of a proportion, from 0 to 1 (Wilson 1927)."""
    z = 1.96
    middle = (right + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * (right * (total - right) / total + z**2 / 4) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def auc(positive, negative):
    """Area under the ROC curve: the probability that a positive value is larger, ties half; NaN if
    one is empty.
    """
    if not len(positive) or not len(negative):
        return np.nan
    apart = np.asarray(positive)[:, None] - np.asarray(negative)
    return float((apart > 0).mean() + (apart == 0).mean() / 2)


def right(possible, impossible):
    """1 if the impossible value is the larger, 0.5 if they are equal, else 0."""
    return float(np.heaviside(impossible - possible, 0.5))


def told(possible, impossible, error):
    """{row: (right by mean, right by largest)} of the Surprises of a pair."""
    curves = [found.over_time(error) for found in (possible, impossible)]
    return {
        name: tuple(
            right(*(of(c[name][np.isfinite(c[name])]) for c in curves)) for of in (np.mean, np.max)
        )
        for name in ROWS
        if np.isfinite(curves[0][name]).any()
    }


def located(found, where, onset, error):
    """{row: (where, when)} of the Surprise of an impossible clip: areas under the curve.

    where: bool (frames, H, W).  onset: the first frame of the event, even.
    """
    errors, first = found.errors(error), onset // 2
    rows, columns = found.cosine.shape[1:]
    # (steps, rows, columns): the share of each token in the frame that shows most
    shown = torch.from_numpy(where).float().unflatten(0, (-1, 2)).amax(1, keepdim=True)
    shown = torch.nn.functional.adaptive_avg_pool2d(shown, (rows, columns))[:, 0].numpy()
    event = slice(first, first + EVENT)
    areas = {}
    for name in ROWS:
        e, steps = errors[name], np.isfinite(errors[name]).all((1, 2))
        if not steps.any():
            continue
        curve, others = e.mean((1, 2)), steps.copy()
        others[event] = False
        place = auc(e[event][shown[event] >= SHARE], e[event][shown[event] == 0])
        areas[name] = place, auc(curve[event], curve[others])
    return areas


def rendered(count, seed):
    """(kind, possible, impossible, (where, onset)) of `count` pairs of each kind."""
    for made in islice(pairs(seed, side=SIDE), count * len(KINDS)):
        yield made.kind, made.possible, made.impossible, (made.where, made.onset)


def listed(path, every, count):
    """The same from a CSV file, without ground truth; KeyError if a column is missing."""
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        files = [path.parent / line[name] for name in ("possible", "impossible")]
        clips = [vj.read_video(file, every=every, count=count) for file in files]
        yield line.get("kind") or "all", *clips, None


def measured(encoders, clips, total, arguments):
    """A dict for each pair and row of the tables: row, kind, mean and largest (right or not), where
    and when (areas, NaN without ground truth), error (of the possible clip).
    """
    options = dict(context=arguments.context, target=arguments.target, size=arguments.size)
    for kind, *both, truth in tqdm(clips, total=total, desc="surprise", unit="pair"):
        for encoder in encoders:
            surprises = [encoder.surprise(clip, **options) for clip in both]
            areas = located(surprises[1], *truth, arguments.error) if truth else {}
            level = surprises[0].over_time(arguments.error)
            for row, (mean, largest) in told(*surprises, arguments.error).items():
                if row == "pixels" and encoder is not encoders[0]:
                    continue  # the same for every encoder
                where, when = areas.get(row, (np.nan, np.nan))
                name = row if row == "pixels" else f"{encoder.name}: {row}"
                error = float(np.nanmean(level[row]))
                numbers = name, kind, mean, largest, where, when, error
                yield dict(zip(COLUMNS, numbers, strict=True))


def share(values):
    """Accuracy in per cent and its interval."""
    low, high = wilson(values.sum(), len(values))
    return f"{100 * values.mean():.0f} ({100 * low:.0f}–{100 * high:.0f})"


def mean_and_interval(values):
    """Mean and half of its 95 % interval."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return "–"
    return f"{values.mean():.2f} ± {1.96 * values.std(ddof=1) / len(values) ** 0.5:.2f}"


def table(found, kinds, what, title, chance=None):
    """A table in Markdown: a row for each prediction and baseline, a column for each kind."""
    write = share if what in ("mean", "largest") else mean_and_interval
    lines = [["chance", *[chance] * (len(kinds) + 1)]] if chance else []
    for row in dict.fromkeys(one["row"] for one in found):
        cells = []
        for kind in [*kinds, None]:
            own = [o[what] for o in found if o["row"] == row and kind in (o["kind"], None)]
            cells.append(write(np.array(own)))
        lines.append([row, *cells])
    return pages.table([title, *kinds, "all"], lines)


def report(found, arguments):
    """All tables in Markdown."""
    kinds = list(dict.fromkeys(one["kind"] for one in found))
    count = sum(one["row"] == found[0]["row"] for one in found)
    kinds = [] if kinds == ["all"] else kinds
    about = f"{count} pairs, {arguments.error}, predicted one step ahead from {arguments.context} "
    about += f'frames, target="{arguments.target}".'
    tables = [about, table(found, kinds, "mean", "right by the mean, %", "50")]
    tables.append(table(found, kinds, "largest", "right by the largest, %", "50"))
    if np.isfinite([one["where"] for one in found]).any():
        tables.append(table(found, kinds, "where", "where, AUC", "0.50"))
        tables.append(table(found, kinds, "when", "when, AUC", "0.50"))
    tables.append(table(found, kinds, "error", "error in the possible clips"))
    return "\n\n".join(tables)


def run(arguments):
    """All that is `measured`, as a list; with --save also written, pair by pair."""
    encoder = vj.load_encoder(arguments.encoder)
    encoders = [encoder, random_weights(encoder)]
    if arguments.pairs:
        clips, total = listed(arguments.pairs, arguments.every, arguments.frames), None
    else:
        arguments.size = arguments.size or SIDE
        clips = rendered(arguments.count, arguments.seed)
        total = arguments.count * len(KINDS)
    found = []
    with open(arguments.save or os.devnull, "w", newline="", buffering=1) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for one in measured(encoders, clips, total, arguments):
            found.append(one)
            writer.writerow(one)
    return found


def loaded(path):
    """The same, from a file that --save wrote, in a run that ended or was stopped."""
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    return [one | {what: float(one[what]) for what in COLUMNS[2:]} for one in lines]


def main():
    parser = argparse.ArgumentParser(
        description="Does surprise detect the impossible clip of a pair?"
    )
    parser.add_argument("--encoder", default="vjepa2-demo")
    parser.add_argument("--count", type=int, default=12, help="rendered pairs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=Path, metavar="FILE.csv", help="pairs of files instead")
    parser.add_argument("--every", type=int, default=1, help="with --pairs: take every n-th frame")
    parser.add_argument("--frames", type=int, help="with --pairs: at most so many of them")
    parser.add_argument("--size", type=int, help=f"short side (rendered: {SIDE}; files: 256)")
    parser.add_argument("--context", type=int, default=8)
    parser.add_argument("--target", choices=["window", "step"], default="window")
    parser.add_argument("--error", choices=["l1", "cosine"], default="l1")
    pages.add_into(parser)
    parser.add_argument("--save", type=Path, metavar="FILE.csv", help="write every pair's numbers")
    parser.add_argument(
        "--load", type=Path, metavar="FILE.csv", help="tables from what --save wrote"
    )
    arguments = parser.parse_args()
    found = loaded(arguments.load) if arguments.load else run(arguments)
    pages.publish({"benchmarks.impossible_events": report(found, arguments)}, arguments.into)


if __name__ == "__main__":
    main()
