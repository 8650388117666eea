"""What README and docs name exists: files, links, commands, programs, functions."""

import importlib.util
import re
import shlex
from functools import cache

import pytest

import vjepa_utils as vj
from tests.conftest import ROOT
from vjepa_utils.__main__ import parser

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "demo/*.md", "demo/*/*.md")
    for path in ROOT.glob(pattern)
)
NO_PATHS = (
    *("facebook", "Dev-Jahn", "davevanveen", "dgrauet", "mnmly"),  # ids of the hub
    "runs",  # what a recipe writes
    "OUT",  # a placeholder
)
each_page = pytest.mark.parametrize("page", PAGES)


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language):
    """The fenced blocks of a page that are in a language."""
    return re.findall(rf"^```(?:{language})\n(.*?)^```", text_of(page), re.M | re.S)


def prose(page):
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)


def spans(page):
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def lines(page):
    """Command lines: of shell blocks and in backticks, without their comments."""
    shell = [body.replace("\\\n", " ") for body in blocks(page, "sh|bash")]
    every = [line for body in shell for line in body.splitlines()] + spans(page)
    return [re.sub(r"\s+#\s.*", "", line).strip() for line in every]


def anchors(page):
    """What a code host makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def registered():
    """{command: its parser}"""
    return next(action.choices for action in parser()._actions if action.dest == "command")


def takes(words):
    """Whether the command line takes these words, a command and its arguments."""
    if words[0] not in registered():
        return False
    if len(words) == 1 or words[0] == "figures":
        return True
    try:
        parser().parse_args(words)
    except SystemExit as error:
        return not error.code  # --help ends with 0
    return True


def has(module, first, *rest):
    """Whether module.first.rest… exists; the last is listed, not imported."""
    return first in dir(module) and (not rest or has(getattr(module, first), *rest))


def test_the_readme_is_read_in_five_minutes():
    assert len(text_of("README.md").split()) <= 1100


@each_page
def test_links_and_pictures_exist(page):
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        here = file.exists() and (not anchor or anchor in anchors(file))
        if not here and not re.match(r"\w+:", target):
            missing.append(target)
    assert not missing


@each_page
def test_paths_exist(page):
    """Whatever looks like a path in backticks, from the repository, the package or the page."""
    places = ROOT, ROOT / "vjepa_utils", (ROOT / page).parent
    paths = [span for span in spans(page) if re.fullmatch(r"[\w.\-]+(/[\w.\-]*)+", span)]
    paths = [path for path in paths if path.split("/")[0] not in NO_PATHS]
    assert not [path for path in paths if not any((place / path).exists() for place in places)]


@each_page
def test_commands_take_their_arguments(page):
    told = [re.match(r"(?:python -m vjepa_utils|vjepa-utils) (.+)", line) for line in lines(page)]
    told = [shlex.split(found[1]) for found in told if found]
    # not "python -m vjepa_utils COMMAND" or "--help"
    told = [words for words in told if words[0].islower() and not words[0].startswith("-")]
    assert not [words for words in told if not takes(words)]


@each_page
def test_programs_exist(page):
    told = [re.match(r"python -m ((?:benchmarks|demo)\.\w+)", line) for line in lines(page)]
    assert not [found[1] for found in told if found and not importlib.util.find_spec(found[1])]


@each_page
def test_make_targets_exist(page):
    targets = re.findall(r"^(\w+):", text_of("Makefile"), re.M)
    told = [re.match(r"make (\w+)", line) for line in lines(page)]
    assert not [found[1] for found in told if found and found[1] not in targets]


@each_page
def test_python_compiles_and_names_what_the_package_has(page):
    for body in blocks(page, "python"):
        compile(body, page, "exec")
    names = set(re.findall(r"\bvj\.(\w+(?:\.\w+)*)", text_of(page)))
    assert not sorted(name for name in names if not has(vj, *name.split(".")))


def test_ci_runs_the_tests_that_the_readme_names():
    assert "make test" in text_of(".ci/run") and "make test" in text_of("README.md")
