"""Imports point down the drawing in docs/architecture.md, never up."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "vjepa_utils"
UPWARDS = {  # methods that delegate to a study
    ("encoders.encoder", "recovery.prediction"),
    ("encoders.vjepa2_1", "recovery.prediction"),
    ("encoders.encoder", "surprise.prediction"),
}
MODULES = sorted(
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)


def drawn():
    """The lines of the drawing, from the top: lists of names."""
    block = re.search(r"```\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.S)[1]
    return [re.split(r" {3,}", line)[0].split() for line in block.splitlines()]


def line_of(module):
    """Number of the line of a module, 0 at the top; its own name precedes its subpackage's."""
    for number, names in enumerate(drawn()):
        if any(fnmatch(module.replace(".", "/"), name) for name in names):
            return number
    room = module.split(".")[0]
    return next((number for number, names in enumerate(drawn()) if room in names), None)


def imported(source):
    """Modules that a source imports by name from `vjepa_utils`, anywhere in it, types excepted."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if ast.unparse(node)[:16] != "if TYPE_CHECKING"]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vjepa_utils"):
            base = node.module.removeprefix("vjepa_utils").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield inner if inner in MODULES else base
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("vjepa_utils.")
                for alias in node.names
                if alias.name.startswith("vjepa_utils.")
            )


def wrong(module, source):
    """Imports that do not point down."""
    own, room = line_of(module), module.split(".")[0]
    for other in imported(source):
        down = line_of(other) is not None and line_of(other) > own
        if not (down or other.split(".")[0] == room or (module, other) in UPWARDS):
            yield other


def test_every_module_is_drawn():
    assert [module for module in MODULES if line_of(module) is None] == []
    known = {module.split(".")[0] for module in MODULES} | {"*/command"}
    assert {name for names in drawn() for name in names} == known


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    source = (PACKAGE / f"{module.replace('.', '/')}.py").read_text()
    assert list(wrong(module, source)) == []
    assert not re.search(r"^\s*(from|import) (demo|benchmarks|tests)\b", source, re.M)


def test_an_import_that_points_up_or_sideways_is_seen():
    assert list(wrong("colours", "from vjepa_utils.figures import save")) == ["figures"]
    assert list(wrong("recovery.figures", "from vjepa_utils.tracking.points import track")) == [
        "tracking.points"
    ]
    assert list(wrong("video", "def f():\n    import vjepa_utils.features")) == ["features"]
    assert not list(wrong("figures", "from vjepa_utils.drawing import evenly"))


def test_only_the_command_line_imports_the_whole_package():
    """`import vjepa_utils` reaches everything, so only the top of the drawing may use it."""
    for module in MODULES:
        source = (PACKAGE / f"{module.replace('.', '/')}.py").read_text()
        names = [
            alias.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import)
            for alias in node.names
        ]
        assert "vjepa_utils" not in names or line_of(module) <= line_of("arguments"), module


def test_the_thin_path_is_read_at_one_sitting():
    thin = [PACKAGE / f"{name}.py" for name in ("video", "features", "colours", "figures")]
    assert sum(len(Path(file).read_text().splitlines()) for file in thin) <= 750


def test_stubs_name_what_there_is():
    """Every name that editors complete can be imported."""
    import importlib

    for stub in sorted(PACKAGE.rglob("__init__.pyi")):
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        module = importlib.import_module(package)
        assert module.__all__, package
        for name in module.__all__:
            assert getattr(module, name) is not None
