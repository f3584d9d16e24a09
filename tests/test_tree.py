"""The tree holds its shape: imports go one way, protobuf stays in its corner, codes and options are documented."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from folding.options import option_fields
from folding.plan import CODES
from service.metrics import Metrics
from service.settings import GIB, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
FOLDING = ROOT / "folding"
SOURCES = sorted(FOLDING.rglob("*.py"))

# Which modules may know protobuf: the index over the message and its two readers, what writes it, and the files.
PROTOBUF = {"api", "commit", "constants", "evaluation", "facts", "functions", "graph", "inference", "leftover", "node"}
PROTOBUF |= {"pipeline", "shapes", "surgery", "sizes", "weights"}
LAYERS = [
    "affine",
    "plan",
    "factors",
    "weights",
    "quantization",
    "evaluation",
    "constants",
    "sizes",
    "shapes",
    "node",
    "graph",
    "sites",
    "regroup",
    "rules",
    "planner",
]
LAYERS += ["branches", "surgery", "commit", "leftover", "functions", "pipeline", "api", "cli"]

LARGEST = 350  # lines of a file one enjoys opening


def module(path: Path) -> str:
    parts = path.relative_to(FOLDING).with_suffix("").parts
    return parts[0] if len(parts) > 1 else parts[-1]


def imported(path: Path) -> set[str]:
    """The modules imported when this one is (not those for the type checker alone)."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_go_one_way(path):
    here = module(path)
    if here not in LAYERS:
        return
    above = set(LAYERS[LAYERS.index(here) + 1 :])
    below = {name.split(".")[1] for name in imported(path) if name.startswith("folding.")}
    # constants and shapes serve the index: it hands them a scope, they know its type only for the type checker
    assert not below & above


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_protobuf_stays_in_its_corner(path):
    knows = any(name.split(".")[0] in {"onnx", "google"} for name in imported(path))
    assert not knows or module(path) in PROTOBUF | {"onnxfile"}


def test_affine_imports_numpy_only():
    assert {name.split(".")[0] for name in imported(FOLDING / "affine.py")} <= {
        "__future__",
        "dataclasses",
        "typing",
        "numpy",
    }


OTHERS = [path for folder in ("benchmarks", "service") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", [*SOURCES, *OTHERS], ids=str)
def test_files_are_small_and_begin_with_their_purpose(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LARGEST
    assert ast.get_docstring(ast.parse(text))


def test_every_code_is_used_and_documented():
    used = set()
    for path in [path for path in SOURCES if module(path) != "plan"]:
        used |= {
            n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant) and n.value in CODES
        }
    assert used == set(CODES)
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "codes.md").read_text(), re.MULTILINE))
    assert documented == set(CODES)


def test_the_table_of_codes_says_what_the_code_says():
    text = (ROOT / "docs" / "codes.md").read_text()
    for code, (meaning, hint) in CODES.items():
        assert f"| `{code}` | {meaning} | {hint} |" in text


def test_every_option_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for name in option_fields():
        assert f"--{name.replace('_', '-')}" in text


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_the_library_knows_the_service_only_where_it_is_asked_for(path):
    assert not any(name.split(".")[0] == "service" for name in imported(path))


@pytest.mark.parametrize("name", ["worker", "work", "confine"])
def test_the_process_of_a_fold_starts_without_the_server(name):
    """It needs no web framework, no database and no pydantic: they cost a second, and have no business there."""
    seen, ahead = set(), {f"service.{name}"}
    while ahead:
        seen |= ahead
        paths = [ROOT / "service" / f"{one.split('.')[1]}.py" for one in ahead if one.startswith("service.")]
        ahead = {found for path in paths if path.is_file() for found in imported(path)} - seen
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
    if isinstance(default, int) and default and default % GIB == 0:
        return f"{default // GIB} GiB"
    return f"{default:g}" if isinstance(default, (int, float)) else str(default or "")


def test_every_metric_is_documented():
    text = (ROOT / "docs" / "operating.md").read_text()
    for metric in Metrics().registry.collect():
        assert f"`{metric.name}" in text
