"""Clips whose classes are known, and the recordings that they were cut from."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

from vjepa_utils.checks import UserError
from vjepa_utils.reading.sources import IMAGES
from vjepa_utils.video import File


class LabelledClip(NamedTuple):
    """A clip, its class, and the recording that it was cut from."""

    file: Path
    label: str
    recording: str


def labelled_clips(source: File) -> tuple[list[LabelledClip], str]:
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
    rows = _rows_of_table(source) if source.suffix.lower() == ".csv" else _rows_of_folder(source)
    classes = {label for _, label, _ in rows}
    if len(classes) < 2:
        raise UserError(
            f"{source} needs clips of at least two classes, each in a sub-folder or named in a "
            f"table, and has {len(classes)}."
        )
    named = [
        LabelledClip(file, label, recording or re.sub(r"\d+\D*$", "", file.stem) or str(file))
        for file, label, recording in rows
    ]
    if all(recording for *_, recording in rows):
        return named, "the column recording" if source.is_file() else "folder"
    if all(len({clip.recording for clip in named if clip.label == c}) > 1 for c in classes):
        return named, "the part of the name before its last number"
    return [LabelledClip(file, label, str(file)) for file, label, _ in rows], "clip"


def _rows_of_table(table):
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"path", "label"} <= rows[0].keys():
        raise UserError(f"{table} needs a first line with the columns path and label, and rows.")
    return [(table.parent / row["path"], row["label"], row.get("recording")) for row in rows]


def _rows_of_folder(folder):
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    rows = []
    for file in sorted(folder.glob("[!.]*/[!.]*")):
        inner = sorted(file.glob("[!.]*"))
        if inner and not any(each.suffix.lower() in IMAGES for each in inner):
            rows += [(each, file.parent.name, file.name) for each in inner]
        else:
            rows.append((file, file.parent.name, None))
    return rows
