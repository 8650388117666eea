"""The size of the house, and that its one stub names what there is. Imports: `make lint`."""

import ast
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
