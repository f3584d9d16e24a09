"""``python -m benchmarks.triton [MODEL ...]``: folders of `--triton`, served by a real Triton server.

The server is that of the package nvidia-pytriton (Linux, x86-64), which brings no backend but Python's. So ONNX
Runtime is a backend in Python here, the few lines in `BACKEND`. What is tried is what bnfold writes: that the server
takes each `config.pbtxt`, warms the model up, forms batches of requests where it may, and returns what the file returns
outside (that the file is right was verified when it was folded). GPUs and the accelerators of `optimization` are not
tried. Writes `results/triton.md`; the exit code is 1 if a model does not load or differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import numpy as np
import onnx
import onnxruntime as ort

import folding
from folding import Options
from tests.fetch_models import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

RESULT = Path(__file__).with_name("results") / "triton.md"
PATIENCE = 120  # seconds until the server is ready
LENGTH = 64  # of an open axis that is no batch
TOLERANCE = 1e-4  # of the largest output
AT_ONCE = 12  # requests, of which a server that may makes batches
BATCHES = "forms batches"
SAMPLES = 2  # in a request
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
NUMPY = {"FP32": np.float32, "FP16": np.float16, "INT64": np.int64, "UINT8": np.uint8, "BOOL": np.bool_}
HEADER_LENGTH = "Inference-Header-Content-Length"  # of the JSON in front of the bytes: Triton's binary data extension
# By DLPack: this server of 2024 reads the arrays of NumPy 1 only
BACKEND = """
import os
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        feeds = {}
        for value in self.session.get_inputs():
            given = np.from_dlpack(triton.get_input_tensor_by_name(request, value.name))
            feeds[value.name] = given if value.shape else given.reshape(())
        names = [value.name for value in self.session.get_outputs()]
        found = [value if value.ndim else value.reshape(1) for value in self.session.run(names, feeds)]
        return triton.InferenceResponse([triton.Tensor.from_dlpack(*pair) for pair in zip(names, found)])
"""
# What real models do not have: no axes, several types, an output without the batch
TEXTS = {
    "no_axes": "agraph (float s, float[2] x) => (float[2] y) { y = Mul(x, s) }",
    "types": """agraph (float[N, 3] x, int64[N, 2] i, bool[N, 3] b, uint8[N, 1] u, float16[N, 2] h)
        => (float[N, 3] y, int64[N, 2] j, bool[N, 3] c, uint8[N, 1] v, float16[N, 2] k)
        { z = Relu(x) y = Where(b, x, z) j = Neg(i) c = Not(b) v = Identity(u) k = Neg(h) }""",
    "one_each": """agraph (float[N, 4] x) => (float[N] y)
        { a = Constant<value = int64[1] {1}>() y = ReduceSum<keepdims = 0>(x, a) }""",
    "total": """agraph (float[N, 4] x) => (float[4] y)
        { a = Constant<value = int64[1] {0}>() y = ReduceSum<keepdims = 0>(x, a) }""",
}
HEAD = """\
# Folders for Triton, in a Triton server

Written by `python -m benchmarks.triton`. A server of nvidia-pytriton {pytriton} (Triton {triton}) on a CPU, with ONNX
Runtime {onnxruntime} as a backend in Python, see the docstring. Each model was asked {asked} times at once; the error
is the largest one against the file outside of Triton, relative to its largest output.

| model | options | `max_batch_size` | state | error |
|---|---|--:|---|--:|
"""


class Served(NamedTuple):
    """A model in the repository: its name there, the original, the file, and the options it was folded with."""

    name: str
    original: Path
    file: Path
    options: Options


def main(argv: Sequence[str] | None = None) -> int:
    """Fold, serve, ask, and write the table; print it where models are named."""
    parser = argparse.ArgumentParser("python -m benchmarks.triton", description=__doc__, allow_abbrev=False)
    parser.add_argument("models", nargs="*", type=Path)
    given = parser.parse_args(argv)
    if (package := find_spec("pytriton")) is None or package.origin is None:
        parser.error("no server; install one: pip install --no-deps nvidia-pytriton")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        served = list(_folded(given.models or [*sorted(FOLDER.glob("*.onnx")), *_written(folder)], folder))
        with _server(Path(package.origin).parent, folder) as client:
            triton = client.get("/v2").json()["version"]
            rows = [_row(one, client) for one in served]
    head = HEAD.format(
        pytriton=version("nvidia-pytriton"), triton=triton, onnxruntime=version("onnxruntime"), asked=AT_ONCE
    )
    table = head + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    print(table)
    if not given.models:
        RESULT.write_text(table)
    return int(any("**" in cell for row in rows for cell in row))


def _written(folder: Path) -> Iterator[Path]:
    for name, text in TEXTS.items():
        path = folder / f"{name}.onnx"
        onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'), path)
        yield path


def _folded(models: Sequence[Path], folder: Path) -> Iterator[Served]:
    """Each model as it is and, where it can be, with fixed lengths, which make a warm-up possible."""
    for model in models:
        for suffix, shapes in (("", ()), ("_fixed", _fixed(model))):
            if suffix and not shapes:
                continue
            name = f"{model.stem.replace('.', '_')}{suffix}"
            options = Options(triton=name, target="onnxruntime-cpu", shape=shapes)
            report = folding.fold(model, folder / "repository", options)
            yield Served(name, model, Path(str(report.target)), options)


def _fixed(model: Path) -> tuple[str, ...]:
    """Lengths for the open axes of a model: two samples."""
    values = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()
    if not any(isinstance(length, str) or length is None for value in values for length in value.shape):
        return ()
    return tuple(f"{value.name}={'x'.join(map(str, _lengths(value.shape)))}" for value in values)


def _lengths(shape: Sequence[int | str | None]) -> list[int]:
    return [n if isinstance(n, int) else LENGTH if axis else SAMPLES for axis, n in enumerate(shape)]


@contextmanager
def _server(package: Path, folder: Path) -> Iterator[httpx.Client]:
    """A server of the repository, on a free port of loopback."""
    own = package / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(own / "backends" / "python", backends / "python")
    stub = own / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(stub / "triton_python_backend_stub", backends / "python")
    (backends / "onnxruntime").mkdir()
    (backends / "onnxruntime" / "model.py").write_text(BACKEND)
    for program in (own / "bin" / "tritonserver", backends / "python" / "triton_python_backend_stub"):
        program.chmod(0o755)
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    libraries = [package.parent / "nvidia_pytriton.libs", Path(sys.base_prefix, "lib")]
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PYTHONPATH": str(Path(np.__file__).parent.parent),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [
        own / "bin" / "tritonserver",
        f"--model-repository={folder / 'repository'}",
        f"--backend-directory={backends}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--exit-on-error=false",
    ]
    log = folder / "server.log"
    with log.open("wb") as output, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            _wait(client, server, log)
            yield client
        finally:
            server.terminate()
            server.wait()


def _wait(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            client.get("/v2/health/live").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"the server did not start:\n{log.read_text()[-4000:]}")


def _row(served: Served, client: httpx.Client) -> list[str]:
    config = client.get(f"/v2/models/{served.name}/config").json()
    options = ", ".join(["--target onnxruntime-cpu", *(f"--shape {one}" for one in served.options.shape)])
    if "name" not in config:
        return [served.original.stem, options, "", f"**{config.get('error', config)}**", ""]
    batch = int(config["max_batch_size"])
    session = ort.InferenceSession(served.file, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    asked = [_drawn(session, random) for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda inputs: _inferred(client, served.name, config, inputs), asked))
    names = [value.name for value in session.get_outputs()]
    errors = [
        _error(outputs[name].reshape(y.shape), y)
        for inputs, outputs in zip(asked, found, strict=True)
        for name, y in zip(names, session.run(names, inputs), strict=True)
    ]
    state = "warmed up" if config["model_warmup"] else "ready"
    if batch:
        state += f", {_batches(client, served.name)}"
    worst = max(errors)
    return [served.original.stem, options, str(batch), state, f"{worst:.0e}" if worst < TOLERANCE else f"**{worst}**"]


def _error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    exact = wanted.astype(np.float64)
    return float(np.abs(found.astype(np.float64) - exact).max() / (np.abs(exact).max() or 1))


def _drawn(session: ort.InferenceSession, random: np.random.Generator) -> Arrays:
    """Random inputs, of two samples where their number is open."""
    inputs = {}
    for value in session.get_inputs():
        drawn = np.asarray(random.standard_normal(_lengths(value.shape)) * 3)
        inputs[value.name] = drawn.astype(TYPES[value.type])
    return inputs


def _inferred(client: httpx.Client, name: str, config: dict[str, Any], inputs: Arrays) -> Arrays:
    """The outputs for inputs; a tensor without axes but the batch travels with one of length 1."""
    batch = [SAMPLES] if int(config["max_batch_size"]) else []
    types = {value["name"]: value["data_type"].removeprefix("TYPE_") for value in config["input"]}
    entries = [
        {
            "name": key,
            "datatype": types[key],
            "shape": list(value.shape) if list(value.shape) != batch else [*batch, 1],
            "parameters": {"binary_data_size": value.nbytes},
        }
        for key, value in inputs.items()
    ]
    outputs = [{"name": value["name"], "parameters": {"binary_data": True}} for value in config["output"]]
    head = json.dumps({"inputs": entries, "outputs": outputs}).encode()
    content = head + b"".join(value.tobytes() for value in inputs.values())
    headers = {HEADER_LENGTH: str(len(head)), "Accept-Encoding": "identity"}  # it would compress the JSON alone
    response = client.post(f"/v2/models/{name}/infer", content=content, headers=headers)
    if response.is_error:
        raise SystemExit(f"{name}: {response.text}")
    start = int(response.headers[HEADER_LENGTH])
    found = {}
    for entry in json.loads(response.content[:start])["outputs"]:
        stop = start + entry["parameters"]["binary_data_size"]
        values = np.frombuffer(response.content[start:stop], NUMPY[entry["datatype"]])
        found[entry["name"]], start = values.reshape(entry["shape"]), stop
    return found


def _batches(client: httpx.Client, name: str) -> str:
    """Whether the server formed batches: fewer executions than samples."""
    statistics = client.get(f"/v2/models/{name}/stats").json()["model_stats"][0]
    samples, executions = int(statistics["inference_count"]), int(statistics["execution_count"])
    return f"{BATCHES} ({samples} samples in {executions} executions)"


if __name__ == "__main__":
    sys.exit(main())
