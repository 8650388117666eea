"""What probes are to read from clips, and the recordings that clips were cut from."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

from vjepa_utils.checks import UserError
from vjepa_utils.reading.sources import IMAGES
from vjepa_utils.video import Clip, File, read_video


class Target(NamedTuple):
    """What a clip, a step of it or a token holds.

    clip: a path, Video or array.
    value: a number, an angle in radians, or the name of a class.
    recording: what the clip was cut from; None for the clip itself.
    step, frame: step of the features, or a frame's number in the file; None for all.
    point: (x, y) in pixels of the clip; None for all places.
    origin: named in errors, such as "table.csv, line 4".
    """

    clip: Clip
    value: float | str
    recording: str | None = None
    step: int | None = None
    frame: int | None = None
    point: tuple[float, float] | None = None
    origin: str = "A target"


def read_targets(table: File, kind: str = "number", **taken) -> list[Target]:
    """Targets of a .csv file with the columns clip (relative to it) and value, and perhaps
    recording, step or frame, x and y.

    Args:
        table: the file.
        kind: "class", or another, whose values are numbers.
        taken: start, every, fps, count, as for `read_video`.
    Raises:
        UserError: a column or a clip is missing, or a number is none; it names the line.
    """
    clips, targets = {}, []
    for line, row in _rows(table, "clip", "value"):
        origin, file = f"{table}, line {line}", Path(table).parent / row["clip"]
        try:
            clips[file] = clips.get(file) or read_video(file, **taken)
            at = {name: float(row[name]) for name in ("step", "frame", "x", "y") if row.get(name)}
            value = row["value"] if kind == "class" else float(row["value"])
        except (ValueError, OSError) as error:
            raise UserError(f"{origin}: {str(error).rstrip('.')}.") from None
        if ("x" in at) != ("y" in at):
            raise UserError(f"{origin} has only one of x and y: a point needs both.")
        point = (at["x"], at["y"]) if "x" in at else None
        place = at.get("step"), at.get("frame"), point
        targets.append(Target(clips[file], value, row.get("recording"), *place, origin))
    return targets


def labelled_clips(source: File) -> tuple[list[Target], str]:
    """Clips with their classes and recordings, and what the recordings are known by.

    Args:
        source: a folder with a sub-folder for each class; or a .csv file with the columns path
            (relative to it) and label, and perhaps recording.
    Returns:
        Of clips without that column, the recording is the folder that they lie in within that of
        their class, or else the part of their name before its last number: v_Jump_g01_c of
        v_Jump_g01_c02.avi. Where such names leave a class with one recording, each clip is one.
    Raises:
        UserError: fewer than two classes, or a table without those columns.
    """
    source = Path(source)
    is_table, folder = source.suffix.lower() == ".csv", source.parent
    if is_table:
        rows = [row for _, row in _rows(source, "path", "label")]
        clips = [Target(folder / r["path"], r["label"], r.get("recording")) for r in rows]
    else:
        clips = _of_folder(source)
    classes = {clip.value for clip in clips}
    if len(classes) < 2:
        raise UserError(
            f"{source} needs clips of at least two classes, each in a sub-folder or named in a "
            f"table, and has {len(classes)}."
        )
    if all(clip.recording for clip in clips):
        return clips, "the column recording" if is_table else "folder"
    apart = [clip._replace(recording=str(clip.clip)) for clip in clips]
    stems = [re.sub(r"\d+\D*$", "", clip.clip.stem) or str(clip.clip) for clip in clips]
    named = [c._replace(recording=c.recording or s) for c, s in zip(clips, stems, strict=True)]
    if all(len({clip.recording for clip in named if clip.value == c}) > 1 for c in classes):
        return named, "the part of the name before its last number"
    return apart, "clip"


def _rows(table, *columns):
    """[(number of the line, {column: text})] of a .csv file that has these columns."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = [(reader.line_num, row) for row in reader]
    if not rows or not {*columns} <= rows[0][1].keys():
        names = " and ".join(columns)
        raise UserError(f"{table} needs a first line with the columns {names}, and rows.")
    return rows


def _of_folder(folder):
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    clips = []
    for file in sorted(folder.glob("[!.]*/[!.]*")):
        inner, label = sorted(file.glob("[!.]*")), file.parent.name
        if inner and not any(each.suffix.lower() in IMAGES for each in inner):
            clips += [Target(each, label, file.name) for each in inner]
        else:
            clips.append(Target(file, label))
    return clips
