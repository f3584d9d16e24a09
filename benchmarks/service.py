"""What the HTTP service takes: memory and latency during a large upload, folds a second, and where their time goes.

`python -m benchmarks.service` starts a server of its own on loopback, in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
LARGE = 1 << 30
PORT = 8971
CHAINS = {"14 MB": (256, 6, 29), "100 MB": (512, 11, 13)}  # channels, layers, folds
CLIENTS = 4
SIDE = 14  # height and width of a model's input
ALONE = 5  # folds, one after another
PAUSE_ALONE = 1.0  # seconds between two of them
PAUSE = 0.01  # seconds between two requests whose latency is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-verify", action="store_true", help="fold without verification")
    verify = not parser.parse_args().no_verify
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "folding",
            "serve",
            "--port",
            str(PORT),
            "--data",
            f"{folder}/data",
        ]
        with (Path(folder) / "log").open("w") as log, subprocess.Popen(command, stderr=log) as server:
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=600) as client:
                    measure(client, server.pid, verify=verify)
            finally:
                server.terminate()


def measure(client: httpx.Client, pid: int, *, verify: bool) -> None:
    while True:
        try:
            client.get("/readyz")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    idle, before = latencies(client, lambda: time.sleep(3)), resident(pid)
    began = time.perf_counter()
    busy = latencies(client, lambda: client.post("/v1/inspect", content=zeros(LARGE)))
    took = time.perf_counter() - began
    print(f"upload of 1 GiB: {took:.1f} s; server {before / MIB:.0f} MiB before, {resident(pid) / MIB:.0f} MiB at most")
    for name, values in (("idle", idle), ("during the upload", busy)):
        p50, p99, worst = np.percentile(values, [50, 99, 100]) * 1000
        print(f"GET /readyz {name}: median {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms of {len(values)}")
    for name, (channels, layers, count) in CHAINS.items():
        models = [chain(channels, layers, number) for number in range(count)]
        print(f"{name} ({len(models[0]) / 1e6:.0f} MB)")
        print(throughput(client, pid, models[ALONE:], {"verify": verify}))
        print(alone(client, models[:ALONE], {"verify": verify}))
    print(f"server {resident(pid) / MIB:.0f} MiB at most")


def throughput(client: httpx.Client, pid: int, models: list[bytes], options: dict[str, bool]) -> str:
    def fold(data: bytes) -> int:
        return client.post("/v1/fold", content=data, params=options, headers={"Prefer": "wait=25"}).status_code

    began, before = time.perf_counter(), processor_seconds(pid)
    with ThreadPoolExecutor(CLIENTS) as clients:
        codes = set(clients.map(fold, models))
    took, after = time.perf_counter() - began, processor_seconds(pid)
    own, children = ((b - a) / len(models) for a, b in zip(before, after, strict=True))
    rate = f"{len(models) / took:.2f} folds/s with {CLIENTS} clients, answers {codes}"
    theirs = f"{children:.2f} in its processes" if children else "bubblewrap does not report what its processes take"
    return f"  {rate}; CPU seconds of one: {own:.2f} in the server, {theirs}"


def alone(client: httpx.Client, models: list[bytes], options: dict[str, bool]) -> str:
    """The parts of single requests, one after another; medians in milliseconds."""
    found = []
    for data in models:
        time.sleep(PAUSE_ALONE)  # time to start a spare process for the next fold
        began, before = time.perf_counter(), fold_seconds(client)
        job = client.post("/v1/fold", content=data, params=options).headers["bnfold-job"]
        whole, engine = time.perf_counter() - began, fold_seconds(client) - before
        report = client.get(f"/v1/jobs/{job}/report").json()
        verification = report["verification"]["seconds"]
        fold = report["seconds"] - verification
        found.append((whole, whole - engine, fold, verification, engine - report["seconds"]))
    whole, around, fold, verification, rest = np.median(found, axis=0) * 1000
    parts = f"upload, commit and answer {around:.0f}, read, fold and write {fold:.0f}, verification {verification:.0f}"
    return f"  one alone: {whole:.0f} ms, of it {parts}, start, report and keeping the result {rest:.0f}"


def fold_seconds(client: httpx.Client) -> float:
    """The seconds of all folds so far, from the server's metrics."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("bnfold_fold_seconds_sum"))


def processor_seconds(pid: int) -> tuple[float, float]:
    """CPU seconds of the process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, child_user, child_system = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:15])
    return user + system, child_user + child_system


def latencies(client: httpx.Client, work: object) -> list[float]:
    """Latencies in seconds of other requests while `work` runs."""
    found, done = [], threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=600) as other:
            while not done.is_set():
                began = time.perf_counter()
                other.get("/readyz")
                found.append(time.perf_counter() - began)
                time.sleep(PAUSE)

    asking = threading.Thread(target=ask)
    asking.start()
    work()  # type: ignore[operator]
    done.set()
    asking.join()
    return found


def resident(pid: int) -> int:
    """The peak resident memory of the process, in bytes."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)


def chain(channels: int, layers: int, number: int) -> bytes:
    """A model of `layers` times Conv -> BatchNormalization -> Relu; every `number` gives different bytes."""
    rng, shape = np.random.default_rng(number), (channels, channels, 3, 3)
    weight = (rng.standard_normal(shape, dtype=np.float32)) / np.sqrt(9 * channels)
    nodes, constants, value = [], [], "x"
    for layer in range(layers):
        kernel = numpy_helper.from_array(np.roll(weight, layer, 0).astype(np.float32), f"w{layer}")
        constants.append(kernel)
        for letter in "sbmv":
            values = rng.uniform(0.5, 1.5, channels).astype(np.float32)
            constants.append(numpy_helper.from_array(values, f"{letter}{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], pads=[1] * 4))
        names = [f"{letter}{layer}" for letter in "sbmv"]
        nodes.append(helper.make_node("BatchNormalization", [f"c{layer}", *names], [f"n{layer}"]))
        value = f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"n{layer}"], [value]))
    kind, sizes = 1, [1, channels, SIDE, SIDE]
    ends = [helper.make_tensor_value_info(name, kind, sizes) for name in ("x", value)]
    graph = helper.make_graph(nodes, "chain", [ends[0]], [ends[1]], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


if __name__ == "__main__":
    main()
