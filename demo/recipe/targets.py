"""Features of real pictures by a real image encoder: targets for a student, computed once and kept.

A teacher sees each photograph whole, once. Its block at three quarters of the depth and its last
block, each token normalised, become a map of targets: positional information removed (the mean at
each place over all pictures of a shape, which a student would learn before anything else), the
picture's mean subtracted, each token of unit length, both added, in the space of the residual
stream that they share, and reduced by PCA. Any crop of the photograph, shifted, scaled, rotated or
mirrored, reads its targets off that map by the affine map of its pixels, at almost no cost.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

import vjepa_utils as vj

LONG = 32  # cells on a picture's long side
CELL = 16  # pixels of a kept picture for each cell
CHANNELS = 128  # kept by PCA
LAST = 0.7  # weight of the last block, beside 1 of the other
RUNS, RUN, EVERY = 3, 16, 2  # of each clip: runs of frames, frames in a run, of so many

FOLDERS = {
    "teacher": "an image encoder, as load_encoder takes it",
    "photos": "folder of photographs (.jpg)",
    "clips": "folder of clips (.mp4)",
    "targets": "folder for the teacher's features of them, computed once",
}


@dataclass
class Picture:
    """pixels uint8 (3, rows × CELL, columns × CELL); target float16 (CHANNELS, rows, columns)."""

    pixels: torch.Tensor
    target: torch.Tensor


def cells(height, width):
    """(rows, columns) of the map of a picture, its long side LONG."""
    return tuple(max(1, round(side * LONG / max(height, width))) for side in (height, width))


@torch.no_grad()
def look(teacher, frame):
    """Features of one frame, uint8 (H, W, 3), by the teacher, an `ImageEncoder`.

    Returns:
        (rows, columns, 2 × channels) float16: the block at 3/4 of its depth, and the last, through
        a norm without weights: those of the final one were trained for the last block, and some
        channels have ten times the weight of others.
    """
    grid = cells(*frame.shape[:2])
    pixels = teacher.pixels(frame[None], tuple(n * teacher.patch_size for n in grid)).to(
        teacher.device
    )
    out = teacher.model(pixels, output_hidden_states=True)
    blocks = out.hidden_states[round(0.75 * teacher.depth)], out.hidden_states[-1]
    both = torch.cat([F.layer_norm(x, x.shape[-1:]) for x in blocks], -1)
    # class and register tokens come first
    return both[0, -grid[0] * grid[1] :].unflatten(0, grid).half().cpu()


def place_means(maps):
    """{shape: (rows, columns, channels)}: means over pictures of a shape, on their usual grid.

    Args:
        maps: list of (rows, columns, channels).
    """
    means = {}
    for shape in ("wide", "tall", "square"):
        own = [x for x in maps if orientation(x) == shape]
        if own:
            grids = [tuple(x.shape[:2]) for x in own]
            common = max(set(grids), key=grids.count)
            means[shape] = sum(resampled(x.float(), common) for x in own) / len(own)
    return means


def orientation(x):
    """ "wide", "tall" or "square" (sides within an eighth) of a map (rows, columns, …)."""
    rows, columns = x.shape[:2]
    return (
        "square"
        if max(rows, columns) < 1.125 * min(rows, columns)
        else "wide"
        if columns > rows
        else "tall"
    )


def resampled(x, grid):
    """A map (rows, columns, channels) on another grid."""
    if tuple(x.shape[:2]) == tuple(grid):
        return x
    return F.interpolate(x.permute(2, 0, 1)[None], grid, mode="bilinear", align_corners=False)[
        0
    ].permute(1, 2, 0)


def centred(x, means):
    """A map of `look` (rows, columns, 2 × channels) as targets (rows, columns, channels): means of
    place and picture taken out, tokens of either block of unit length, and added.
    """
    x = x.float() - resampled(means[orientation(x)], x.shape[:2])
    middle, last = (F.normalize(block, dim=-1) for block in (x - x.mean((0, 1))).chunk(2, -1))
    return middle + LAST * last


def principal(maps, channels=CHANNELS):
    """Directions of most variance of maps (rows, columns, n): (n, channels), and their share."""
    covariance = sum(x.flatten(0, 1).T @ x.flatten(0, 1) / (x.shape[0] * x.shape[1]) for x in maps)
    values, vectors = torch.linalg.eigh(covariance)
    return vectors.flip(1)[:, :channels], (values.flip(0)[:channels].sum() / values.sum()).item()


def frames_of(photos, clips):
    """(name, read) of every picture: `read` gives uint8 (H, W, 3). Frames are named CLIP.FRAME."""
    for file in sorted(Path(photos).glob("*.jpg")):
        yield file.stem, lambda file=file: np.asarray(Image.open(file).convert("RGB"))
    for file in sorted(Path(clips).glob("*.mp4")) if clips else ():
        video = vj.read_video(file)
        for start in np.linspace(0, len(video) - RUN * EVERY, RUNS).astype(int):
            for number in range(start, start + RUN * EVERY, EVERY):
                read = lambda video=video, number=number: video[[number]].frames[0]
                yield f"{file.stem}.{number:05}", read


def prepare(teacher, photos, clips, folder):
    """Encode every picture that is not encoded yet, and reduce the maps by PCA.

    Args:
        teacher: a name or folder for `load_encoder`.
        photos: folder of .jpg.  clips: folder of .mp4, or None.
        folder: of the maps and, when all are there, of the targets.
    Returns:
        {name: Picture}.
    """
    folder = Path(folder)
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    frames = dict(frames_of(photos, clips))
    if not frames:
        raise ValueError(f"{photos} holds no photographs (.jpg).")
    missing = [name for name in frames if not (folder / "maps" / f"{name}.pt").exists()]
    if missing:
        teacher = vj.load_encoder(teacher, dtype=torch.float32)
        for name in tqdm(missing, desc=f"{teacher.name} encodes pictures"):
            torch.save(look(teacher, frames[name]()), folder / "maps" / "part")
            (folder / "maps" / "part").rename(folder / "maps" / f"{name}.pt")
    maps = lambda names: (torch.load(folder / "maps" / f"{name}.pt") for name in names)
    if not (folder / "basis.pt").exists():
        stills = [x for x in maps(name for name in frames if "." not in name)]
        means = place_means(stills)
        basis, share = principal(centred(x, means) for x in stills[::2])
        print(f"{CHANNELS} of {len(basis)} channels hold {share:.0%} of the targets' variance")
        torch.save({"means": means, "basis": basis}, folder / "basis.pt")
    reduced = folder / "targets.pt"
    targets = torch.load(reduced) if reduced.exists() else {}
    if not frames.keys() <= targets.keys():  # the basis stays, as readouts were trained on it
        means, basis = torch.load(folder / "basis.pt").values()
        for name, x in zip(frames, maps(frames), strict=True):
            targets[name] = (centred(x, means) @ basis).permute(2, 0, 1).half()
        torch.save(targets, reduced)
    pictures = {}
    for name, read in tqdm(frames.items(), desc="reading pictures"):
        size = [n * CELL for n in targets[name].shape[1:]]
        picture = Image.fromarray(read()).resize(size[::-1], Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        pictures[name] = Picture(pixels, targets[name])
    return pictures
