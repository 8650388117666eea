"""The size of the house, and that its one stub names what there is. Imports: `make lint`."""

import ast
import re
import tomllib
from pathlib import Path

import vjepa_utils
from tests.conftest import ROOT

PACKAGE = ROOT / "vjepa_utils"


def closure(module: str) -> set[Path]:
    """Files of the package that importing a module runs: imports at module level, no types."""
    seen, left = set(), [PACKAGE / f"{module}.py"]
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vjepa_utils"):
                base = ROOT / node.module.replace(".", "/")
                modules = [base / alias.name for alias in node.names] + [base]
                left += [m.with_suffix(".py") for m in modules if m.with_suffix(".py").exists()]
    return seen


def test_stubs_name_what_there_is():
    """Every name that editors complete can be imported."""
    assert vjepa_utils.__all__
    for name in vjepa_utils.__all__:
        assert getattr(vjepa_utils, name) is not None


def test_the_drawing_is_the_contract_that_is_enforced():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    drawing = re.search(r"```\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.S)[1]
    drawn = [re.split(r" {3,}", line)[0] for line in drawing.splitlines()]
    assert drawn == contract["contracts"][0]["layers"]
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    named = {name for line in drawn for name in line.split(" | ")}
    assert rooms - {"__init__", "__pycache__", "shipped"} == named


def test_the_way_from_a_clip_to_tokens_is_short():
    """What importing the encoder runs."""
    files = closure("encoder")
    lines = sum(len(path.read_text().splitlines()) for path in files)
    assert len(files) <= 12 and lines <= 1_560, (len(files), lines)
