"""Features of many clips: a folder of files and one table, made on one machine or on a cluster."""

from vjepa_utils.checks import require

for package in ("fsspec", "pyarrow"):
    require(package, "collection")
