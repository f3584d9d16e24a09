"""The tree holds its shape: imports go one way, protobuf stays in its corner, codes and options are documented."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import pytest

from folding.options import option_fields
from folding.refusal import CODES
from service.settings import GIB, Settings
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo

FOLDING = ROOT / "folding"

# From the bottom: a module imports from lower floors and from its own room, never from another one beside it.
FLOORS = {
    "folding": [
        {"errors", "process", "refusal", "version"},
        {"targets"},
        {"options"},
        {"algebra", "report"},
        {"fleet", "onnxfile"},
        {"archive", "execution", "graph"},
        {"analysis", "verification"},
        {"editing"},
        {"cleaning", "conversion", "fusing", "precision", "readiness", "rules"},
        {"delivery", "planning"},
        {"scaling"},
        {"pipeline"},
        {"api", "client"},
        {"torch"},
        {"", "command"},  # the public names, which are loaded when they are asked for
        {"__main__"},
    ],
    "service": [
        {"", "changes", "left", "logs", "machine", "problems", "threads", "tracing", "work"},
        {"blobs", "metrics", "options", "settings"},
        {"ledger", "secret"},
        {"process", "reservations", "storage", "upkeep"},
        {"auth", "engine", "partials", "webhook"},
        {"openapi", "state"},
        {"gauges"},
        {"http"},
        {"command"},
    ],
}
# The only modules that know of each other: a scope has its nodes, each of its scope; a report writes itself in forms.
PAIRS = {("folding.graph.node", "folding.graph.index"), ("folding.report.model", "folding.report.forms")}
# Others name its types for the type checker alone.
PROTOBUF = {"analysis", "conversion", "editing", "execution", "graph", "onnxfile", "torch"}
BELOW_ALGEBRA = {"__future__", "collections", "dataclasses", "functools", "math", "ml_dtypes", "numpy", "typing"}
LARGEST = 350  # lines of a file one enjoys opening
MOST = 20  # files of a folder one finds the right one in


class Import(NamedTuple):
    """One module that another one imports; `now` says that it is loaded together with it."""

    name: str
    now: bool


def module(path: Path) -> str:
    """The dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for package in FLOORS for path in sorted((ROOT / package).rglob("*.py"))}
SOURCES = [path for name, path in MODULES.items() if name.split(".")[0] == "folding"]


def imports(text: str) -> set[Import]:
    """All that a module imports: at its top, for the type checker, and in its functions."""
    tree = ast.parse(text)
    top, found = set(tree.body), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {Import(alias.name, node in top) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(Import(inner if inner in MODULES else str(node.module), node in top))
    return found


def imported(path: Path) -> set[str]:
    """The modules imported when this one is: not those for the type checker, nor those that a function asks for."""
    return {one.name for one in imports(path.read_text()) if one.now}


def room(name: str) -> tuple[str, str]:
    """The package of a module, and its room there."""
    package, _, rest = name.partition(".")
    return package, rest.split(".")[0]


def floor(package: str, name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS[package]) if name in rooms)


def upwards(name: str, text: str) -> set[str]:
    """The imports of a module that lead to a room on its own floor or above."""
    package, here = room(name)
    rooms = {one.name: room(one.name) for one in imports(text) if room(one.name)[0] == package}
    return {
        other for other, (_, there) in rooms.items() if there != here and floor(package, there) >= floor(package, here)
    }


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    assert not upwards(name, MODULES[name].read_text())


@pytest.mark.parametrize(
    "line",
    [
        "from folding.graph.node import Node",
        "from folding.graph import constants",
        "import folding.api",
        "from folding import onnxfile",
        "if TYPE_CHECKING:\n    from folding.graph.node import Node",
        "def f():\n    from folding.rules.edit import Edit",
    ],
)
def test_an_import_that_is_turned_around_is_found(line):
    assert len(upwards("folding.algebra.affine", line)) == 1
    assert not upwards("folding.planning.planner", line) or "api" in line


def test_every_room_is_on_one_floor():
    for package, floors in FLOORS.items():
        rooms = [name for rooms in floors for name in rooms]
        assert sorted(rooms) == sorted({room(name)[1] for name in MODULES if room(name)[0] == package})


def test_the_document_of_the_architecture_shows_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text()
    picture = text.partition("```\n")[2].partition("```")[0]
    rooms = {name for floors in FLOORS.values() for rooms in floors for name in rooms} - {"", "__main__"}
    assert not [name for name in rooms if not re.search(rf"\b{name}\b", picture)]
    named = re.findall(r"`((?:folding|service|tests|benchmarks|deploy)/[\w/]+(?:\.\w+|/))`", text)
    assert not [path for path in named if not (ROOT / path).exists()]


def test_what_is_deployed_is_documented_and_is_there():
    folder = ROOT / "deploy"
    text = "".join(path.read_text() for path in (folder / "README.md", ROOT / "docs" / "deploying.md"))
    kept = [path for path in folder.rglob("*") if path.is_file() and "secrets" not in path.parts]
    assert not [path for path in kept if path.name not in text and path.name != "README.md"]
    linked = [(path.parent, link) for path in (folder / "README.md", *(ROOT / "docs").glob("*.md"))
              for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", path.read_text())]  # fmt: skip
    assert not [link for place, link in linked if not (place / link).exists()]


def test_modules_do_not_import_each_other_in_circles():
    before = {
        name: {one.name for one in imports(path.read_text()) if one.name in MODULES and (name, one.name) not in PAIRS}
        for name, path in MODULES.items()
    }
    assert len(list(TopologicalSorter(before).static_order())) == len(MODULES)  # it raises where there is a circle


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_protobuf_stays_in_its_rooms(path):
    knows = any(one.split(".")[0] in {"onnx", "google"} for one in imported(path))
    assert not knows or room(module(path))[1] in PROTOBUF


@pytest.mark.parametrize("path", sorted((FOLDING / "algebra").glob("*.py")), ids=str)
def test_algebra_imports_numpy_only(path):
    others = {one for one in imported(path) if room(one) not in {("folding", "algebra"), ("folding", "refusal")}}
    assert {one.split(".")[0] for one in others} <= BELOW_ALGEBRA


ROOMS = sorted(
    path.parent
    for path in MODULES.values()
    if path.name == "__init__.py" and path.parent.parent == ROOT / path.parent.parent.name
)
DOORS = [name for name in map(module, ROOMS) if hasattr(import_module(name), "__all__")]


def used(name: str, door: str) -> set[str]:
    """What a module takes from a room: the names that it imports, and those that it writes behind the room's own."""
    text, (package, _, short) = MODULES[name].read_text(), door.rpartition(".")
    tree, found = ast.parse(text), set()
    is_imported = re.search(rf"^from {package} import .*\b{short}\b", text, re.MULTILINE) is not None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{door}."):
            behind = str(node.module).removeprefix(door)
            found |= {f"{behind}.{alias.name}".lstrip(".") for alias in node.names}
        elif is_imported and isinstance(node, ast.Attribute) and ast.unparse(node.value) == short:
            found.add(node.attr)
    return found


@pytest.mark.parametrize("door", DOORS)
def test_a_room_with_a_door_is_entered_by_it_and_it_hands_out_nothing_else(door):
    taken = [used(name, door) for name in MODULES if not f"{name}.".startswith(f"{door}.")]
    documents = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    taken += [set(names.split(", ")) for names in re.findall(rf"^from {door} import (.*)$", documents, re.MULTILINE)]
    assert set().union(*taken) == set(import_module(door).__all__)


@pytest.mark.parametrize("folder", ROOMS, ids=str)
def test_the_tests_mirror_the_rooms(folder):
    """Of a room that a user sees, the tests are beside those of the page."""
    places = [ROOT / "tests" / folder.relative_to(ROOT), ROOT / "tests" / folder.name]
    assert any(list(place.glob("test_*.py")) for place in places)


OTHERS = [path for folder in ("benchmarks", "service") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", [*SOURCES, *OTHERS], ids=str)
def test_files_are_small_and_begin_with_their_purpose(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LARGEST
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("folder", sorted({path.parent for path in [*SOURCES, *OTHERS]}), ids=str)
def test_folders_have_few_files(folder):
    assert len(list(folder.glob("*.py"))) <= MOST


def test_every_code_is_used():
    used = set()
    for path in [path for path in SOURCES if module(path) != "folding.refusal"]:
        used |= {
            n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant) and n.value in CODES
        }
    assert used == set(CODES)


def test_every_option_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for name in option_fields():
        assert f"--{name.replace('_', '-')}" in text


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_the_library_knows_the_service_only_where_it_is_asked_for(path):
    assert not any(name.split(".")[0] == "service" for name in imported(path))


@pytest.mark.parametrize("name", ["process.worker", "work", "process.confine"])
def test_the_process_of_a_fold_starts_without_the_server(name):
    """It needs no web framework, no database and no pydantic: they cost a second, and have no business there."""
    seen, ahead = set(), {f"service.{name}"}
    while ahead:
        seen |= ahead
        packages = {one.rpartition(".")[0] for one in ahead if "." in one}  # whose `__init__` is loaded, too
        paths = [MODULES[one] for one in ahead | packages if one in MODULES]
        ahead = {found for path in paths for found in imported(path)} - seen
    assert not {one.split(".")[0] for one in seen} & {"fastapi", "starlette", "sqlalchemy", "pydantic", "uvicorn"}


def test_every_setting_is_documented():
    text = (ROOT / "docs" / "operating.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", text, re.MULTILINE)
    assert rows == [(name, written(field), field.description) for name, field in Settings.model_fields.items()]


def written(setting: FieldInfo) -> str:
    """The default of a setting as the table has it."""
    default = setting.default
    if setting.default_factory is not None:
        return "the cores"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int) and default and default % GIB == 0:
        return f"{default // GIB} GiB"
    return f"{default:g}" if isinstance(default, (int, float)) else str(default or "")
