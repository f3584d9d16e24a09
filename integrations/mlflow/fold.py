"""A step of MLflow: fold a model with any options of `bnfold fold`, log the result with its report and its digest.

python fold.py model.onnx --target onnxruntime-cpu
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import mlflow.onnx
import onnx

FIGURES = ("bn_before", "bn_after", "nodes_before", "nodes_after", "bytes_before", "bytes_after", "seconds")


def fold(model: str, *options: str) -> str:
    """Fold `model` and log it to the active run, or to a new one; return the URI of the logged model.

    Raises:
        SystemExit: with bnfold's exit code, where it did not fold; nothing but its report is logged then.
    """
    with mlflow.start_run(nested=mlflow.active_run() is not None), tempfile.TemporaryDirectory() as folder:
        folded, report = Path(folder, "model.onnx"), Path(folder, "report.json")
        command = ["bnfold", "fold", model, "-o", folded, "--digest", "--card", *options, "--quiet"]
        command += ["--report", report, "--report", report.with_suffix(".html")]
        code = subprocess.run(command, check=False).returncode
        for path in sorted(Path(folder).glob("report.*")):
            mlflow.log_artifact(str(path), "bnfold")
        if not folded.exists():
            raise SystemExit(code)
        document = json.loads(report.read_text())
        mlflow.log_metrics({name: document[name] for name in FIGURES})
        mlflow.set_tags(
            {"bnfold.version": document["version"], "bnfold.verification": document["verification"]["status"]}
        )
        mlflow.log_artifact(f"{folded}.sha256", "bnfold")
        # One file is logged byte for byte; a model with external data is written anew by MLflow
        is_one_file = len(document["digests"]) == 1
        logged = mlflow.onnx.log_model(onnx.load(folded), name="model", save_as_external_data=not is_one_file)
        if code:
            raise SystemExit(code)  # a gate that was not passed; the model is logged all the same
    return str(logged.model_uri)


if __name__ == "__main__":
    model, *options = sys.argv[1:]
    sys.stdout.write(f"{fold(model, *shlex.split(' '.join(options)))}\n")  # MLflow gives the options as one argument
