"""integrations/airflow, mlflow, kubeflow and argo: each step does what it says, without the systems that call it."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from folding import FoldingError
from tests.support import ROOT
from tests.support.fleets import names, save

if TYPE_CHECKING:
    import onnx

STEPS = ROOT / "integrations"
ARGO = yaml.safe_load((STEPS / "argo" / "fold.yaml").read_text())
PROJECT = yaml.safe_load((STEPS / "mlflow" / "MLproject").read_text())
PARAMETERS = {"models": "models", "folded": "folded", "reports": "report", "options": "--max-left 0"}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# Airflow


class Recorded:
    """A context manager and an operator that keep what they are given."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012  emptied by the test

    def __init__(self, *_: str, **given: Any) -> None:
        self.seen.append(given)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def task(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file gives to the DAG and to its operator."""
    for name, members in {
        "airflow": {},
        "airflow.sdk": {"DAG": Recorded},
        "airflow.providers": {},
        "airflow.providers.standard": {},
        "airflow.providers.standard.operators": {},
        "airflow.providers.standard.operators.bash": {"BashOperator": Recorded},
    }.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    Recorded.seen.clear()
    runpy.run_path(str(STEPS / "airflow" / "bnfold_dag.py"))
    dag, operator = Recorded.seen
    return dag, operator


def acted(operator: dict[str, Any], path: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a BashOperator does: in a shell, with the templates of its environment rendered."""
    rendered = {name: value.replace("{{ params.", "").replace(" }}", "") for name, value in operator["env"].items()}
    environment = {name: given[parameter] for name, parameter in rendered.items()}
    command = ["bash", "-c", operator["bash_command"]]
    return subprocess.run(
        command, env=os.environ | {"PATH": path} | environment, capture_output=True, text=True, check=False
    )


def test_the_task_of_airflow_folds_and_fails_at_a_gate(here, path, monkeypatch):
    dag, operator = task(monkeypatch)
    assert dag["params"] == PARAMETERS
    assert operator["append_env"]
    assert "{{" not in operator["bash_command"]  # no parameter can become a command
    done = acted(operator, path, **PARAMETERS)
    assert done.returncode == 7, done.stderr
    assert "models/sub/b.onnx: 1 BatchNormalization stays" in done.stderr
    assert {"folded/a.onnx", "report.json", "report.html"} <= set(names(here))
    done = acted(operator, path, **PARAMETERS | {"options": ""})
    assert done.returncode == 0, done.stderr
    assert "3 done before" in done.stdout
    acted(operator, path, **PARAMETERS | {"models": "x; touch hacked", "options": "$(touch hacked)"})
    assert "hacked" not in names(here)


def test_the_task_of_airflow_is_skipped_where_nothing_folds(here, path, monkeypatch):
    _, operator = task(monkeypatch)
    given = PARAMETERS | {"models": "models/a.onnx", "options": "--require-change --keep *"}
    assert acted(operator, path, **given).returncode == operator["skip_on_exit_code"]


# Argo


def test_the_step_of_argo_makes_its_artifacts(here, path):
    (template,) = ARGO["spec"]["templates"]
    assert ARGO["spec"]["entrypoint"] == template["name"]
    container, work = template["container"], template["container"]["workingDir"]
    places = {one["name"]: one["path"] for kind in ("inputs", "outputs") for one in template[kind]["artifacts"]}
    assert places == {
        name: f"{work}/{file}" for name, file in (("models", "models"), ("folded", "folded"), ("report", "report.html"))
    }
    (variable,) = container["env"]
    (parameter,) = template["inputs"]["parameters"]
    assert variable["value"] == f"{{{{inputs.parameters.{parameter['name']}}}}}"
    assert all("{{" not in word for word in (*container["command"], *container["args"]))
    for options, code in ((parameter["value"], 7), ("", 0)):
        done = subprocess.run(
            [*container["command"], *container["args"]],
            env=os.environ | {"PATH": path, variable["name"]: options},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert {"folded/a.onnx", "folded/a.onnx.sha256", "report.html"} <= set(names(here))


# Kubeflow


def component(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function of the component, taken out of its file as Kubeflow does."""
    kinds = dict.fromkeys(("Model", "HTML", "Metrics"), object)
    several: Any = type("Of", (), {"__class_getitem__": classmethod(lambda _, item: item)})
    dsl = SimpleNamespace(**kinds, Input=several, Output=several, component=lambda **_: lambda function: function)
    module = ModuleType("kfp")
    module.dsl = dsl  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kfp", module)
    return runpy.run_path(str(STEPS / "kubeflow" / "component.py"))["fold"]


class Artifact(SimpleNamespace):
    def log_metric(self, name: str, value: float) -> None:
        self.metadata[name] = value


def artifact(place: Path) -> Artifact:
    return Artifact(path=str(place), metadata={})


@pytest.mark.parametrize("external", ["", "w.bin"])
def test_the_component_of_kubeflow_folds(tmp_path, monkeypatch, external):
    given = save(tmp_path / "in" / "model.onnx", stays=True, external=external)
    fold = component(monkeypatch)
    model, folded, report, figures = (artifact(tmp_path / name) for name in ("in", "out", "report", "figures"))
    if not external:
        model.path = str(given)
    fold(model, folded, report, figures, {"leftover": "affine"})
    expected = ["model.onnx", *(["model.onnx.data"] if external else [])]
    assert names(tmp_path / "out") == [*expected, "model.onnx.sha256"]
    assert folded.metadata["verification"] == "verified"
    assert folded.metadata["sha256"] == {name: sha256(tmp_path / "out" / name) for name in expected}
    assert (figures.metadata["bn_before"], figures.metadata["bn_after"]) == (2, 0)
    assert (tmp_path / "report").read_text().startswith("<!doctype html>")
    with pytest.raises(FoldingError, match="no operator is named"):
        fold(model, artifact(tmp_path / "none"), report, figures, {"keep": ["nothing"]})
    assert names(tmp_path / "none") == []


# MLflow


class Logged:
    """What was logged to a run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.values, self.model = folder, {}, None
        folder.mkdir()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def module(self) -> ModuleType:
        module = ModuleType("mlflow")
        vars(module).update(
            active_run=lambda: None,
            start_run=lambda **_: self,
            log_artifact=lambda file, _: (self.folder / Path(file).name).write_bytes(Path(file).read_bytes()),
            log_metrics=self.values.update,
            set_tags=self.values.update,
        )
        return module

    def log_model(self, model: onnx.ModelProto, name: str, *, save_as_external_data: bool) -> SimpleNamespace:
        assert name == "model"
        self.model = model, save_as_external_data
        return SimpleNamespace(model_uri="models:/m-1")


def logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> tuple[Any, Logged]:
    logged = Logged(tmp_path / "logged")
    flavor = ModuleType("mlflow.onnx")
    flavor.log_model = logged.log_model  # type: ignore[attr-defined]
    module = logged.module()
    module.onnx = flavor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.onnx", flavor)
    monkeypatch.setenv("PATH", path)
    return runpy.run_path(str(STEPS / "mlflow" / "fold.py"))["fold"], logged


@pytest.mark.parametrize("external", ["", "w.bin"])
def test_the_step_of_mlflow_logs_the_model_with_its_report(tmp_path, monkeypatch, path, external):
    fold, logged = logging(tmp_path, monkeypatch, path)
    save(tmp_path / "a.onnx", external=external)
    assert fold(str(tmp_path / "a.onnx"), "--target", "onnxruntime-cpu") == "models:/m-1"
    assert names(tmp_path / "logged") == ["model.onnx.sha256", "report.html", "report.json"]
    assert (logged.values["bn_before"], logged.values["bn_after"]) == (1, 0)
    assert logged.values["bnfold.verification"] == "verified"
    assert logged.model is not None
    model, is_written_anew = logged.model
    assert is_written_anew == bool(external)
    if not external:  # the bytes that the digest is of
        (digest,) = json.loads((tmp_path / "logged" / "report.json").read_text())["digests"]
        assert hashlib.sha256(model.SerializeToString()).hexdigest() == digest["sha256"]


def test_the_step_of_mlflow_ends_as_the_command_does(tmp_path, monkeypatch, path, capfd):
    fold, logged = logging(tmp_path, monkeypatch, path)
    save(tmp_path / "a.onnx", stays=True)
    with pytest.raises(SystemExit) as ended:
        fold(str(tmp_path / "a.onnx"), "--max-left", "0")
    assert ended.value.code == 7
    assert logged.model is not None  # the gate is about the result
    logged.model = None
    with pytest.raises(SystemExit) as ended:
        fold(str(tmp_path / "none.onnx"))
    assert ended.value.code == 2
    assert logged.model is None
    assert "none.onnx" in capfd.readouterr().err


def test_the_project_of_mlflow_runs_the_step():
    entry = PROJECT["entry_points"]["main"]
    assert entry["command"] == "python fold.py {model} {options}"
    assert entry["parameters"].keys() == {"model", "options"}
    assert "shlex.split(' '.join(options))" in (STEPS / "mlflow" / "fold.py").read_text()  # it gives them as one word
