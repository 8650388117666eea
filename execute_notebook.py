"""Execute Exploration.ipynb and store its outputs: python execute_notebook.py, or make execute.

Progress bars and live widgets, which only a kernel can draw, are not stored; the explorer's page
is.
"""

import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from vjepa_utils.files import replacing

ROOT = Path(__file__).parent
NOTEBOOK = ROOT / "Exploration.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"


def executed(timeout=None, **choices):
    """The notebook after a run in the repository root.

    Args:
        timeout: seconds for a cell, or None.
        choices: other values for names of its cell of choices, such as CLIP="my.mp4".
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    chosen = next(cell for cell in notebook.cells if cell.id == "choices")
    chosen.source += "".join(f"\n{name} = {value!r}" for name, value in choices.items())
    where = {"metadata": {"path": str(ROOT)}}
    how = dict(timeout=timeout, kernel_name="python3", resources=where, coalesce_streams=True)
    # outputs may be late on a busy machine: 60 s of patience, not 4
    return NotebookClient(notebook, record_timing=False, iopub_timeout=60, **how).execute()


def strip(notebook):
    """Remove what means nothing without a kernel: progress bars, widgets and their state."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_live(output)]


def _is_live(output):
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def main():
    begin = time.perf_counter()
    notebook = executed()
    strip(notebook)
    with replacing(NOTEBOOK) as temporary:
        nbformat.write(notebook, temporary)
    seconds, megabytes = time.perf_counter() - begin, NOTEBOOK.stat().st_size / 1e6
    print(f"{NOTEBOOK.name}: executed in {seconds:.0f} s, {megabytes:.2f} MB")


if __name__ == "__main__":
    main()
