"""A fleet of small models through the command and a cluster, interrupted twice: what was lost, or done twice."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.cluster.cluster import Cluster, spent, wait_for
from benchmarks.load.server import ROOT
from benchmarks.service import chain
from tests.support.programs import program
from tests.support.service.postgres import LOCAL, free_port

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

SERVERS, WORKERS, JOBS = 2, 2, 6
STOPS = ((0.3, signal.SIGINT), (0.6, signal.SIGKILL))  # at these shares of the outputs
LINE = re.compile(r"(\w+) (\S+) (\d+) (\S+)")  # of the balancer's log: method, path, status, job
JOB_PATH = re.compile(r"/v1/jobs/([0-9a-f]+)$")
# Any server may answer any request.
BALANCER = """daemon off; error_log {folder}/errors; pid {folder}/pid; {user}
events {{ worker_connections 512; }}
http {{
    log_format jobs "$request_method $uri $status $sent_http_bnfold_job";
    access_log {folder}/access jobs;
    {places}
    upstream servers {{ {servers} keepalive 16; }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_read_timeout 90s;
        }}
    }}
}}
"""
PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # folders that nginx makes


def fleet(models: int) -> dict[str, Any]:
    """Fold so many models with the command, which is interrupted twice."""
    with Cluster() as cluster:
        source, target = cluster.folder / "models", cluster.folder / "folded"
        source.mkdir()
        for number in range(models):
            (source / f"m{number:05}.onnx").write_bytes(chain(8, 1, number))
        key = cluster.key("fleet")
        servers = [cluster.server().url for _ in range(SERVERS)]
        workers = [cluster.worker() for _ in range(WORKERS)]
        with balancer(cluster.folder, servers) as (url, log):
            before = cluster.seconds()
            runs = [_run(cluster, url, key, models, stop) for stop in (*STOPS, None)]
            used = spent(before, cluster.seconds())
            last = _run(cluster, url, key, models, None)  # finds all done
            wait_for("all jobs end", lambda: not cluster.open_jobs())
            sent = _requests(log.read_text().splitlines())
        found = _compared(cluster, source, target)
        ends = Counter(end.job for one in workers for end in one.ended() if end.outcome == "done")
        again_folded, cancelled = {job for job, times in ends.items() if times > 1}, sent.pop("cancelled")
    seconds = sum(run["seconds"] for run in runs)
    return {
        "models": models,
        "runs": [*runs, last],
        "seconds": seconds,
        "rate": models / seconds,
        "processor": used,
        **found,
        **sent,
        "folds": ends.total(),
        "folded again": len(again_folded),
        "for nothing": len(again_folded - cancelled),
        "lost": models - found["equal"],
    }


@contextmanager
def balancer(folder: Path, servers: Iterable[str]) -> Generator[tuple[str, Path]]:
    """A load balancer before servers: its address, and its log of requests and jobs."""
    place, port = folder / "balancer", free_port()
    place.mkdir()
    text = BALANCER.format(
        folder=place,
        user="user root;" if os.geteuid() == 0 else "",
        places=" ".join(f"{name}_temp_path {place}/{name};" for name in PLACES),
        servers=" ".join(f"server {url.removeprefix('http://')};" for url in servers),
        listen=f"{LOCAL}:{port}",
    )
    (place / "config").write_text(text)
    command = [program("nginx"), "-p", str(place), "-e", str(place / "errors"), "-c", str(place / "config")]
    running = subprocess.Popen(command, start_new_session=True)
    try:
        wait_for("nginx listens", (place / "pid").exists, seconds=30)
        yield f"http://{LOCAL}:{port}", place / "access"
    finally:
        running.terminate()
        running.wait()


def _run(cluster: Cluster, url: str, key: str, models: int, stop: tuple[float, int] | None) -> dict[str, Any]:
    """One run of the command, to its end, or until a share of the outputs is there."""
    source, target, began = cluster.folder / "models", cluster.folder / "folded", time.monotonic()
    command = [sys.executable, "-m", "folding", "fold", str(source), "--output-dir", str(target)]
    command += ["--server", url, "--jobs", str(JOBS), "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BNFOLD_KEY": key}
    before = _count(target)
    with (cluster.folder / "command.log").open("ab") as log:
        running = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        cluster.count("clients", running.pid)
        try:
            while running.poll() is None:
                if stop is not None and _count(target) >= stop[0] * models:
                    running.send_signal(stop[1])
                    running.wait()
                time.sleep(0.2)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
    name = "" if stop is None else signal.Signals(stop[1]).name
    seconds = time.monotonic() - began
    return {"stop": name, "code": running.returncode, "seconds": seconds, "new": _count(target) - before}


def _count(folder: Path) -> int:
    return sum(1 for entry in os.scandir(folder) if entry.name.endswith(".onnx")) if folder.exists() else 0


def _compared(cluster: Cluster, source: Path, target: Path) -> dict[str, Any]:
    """The outputs beside what the ledger says of them."""
    with cluster.connection() as connection:
        rows = connection.execute("SELECT name, status, attempts, result_sha256 FROM jobs").fetchall()
    recorded = {row[0]: row[3] for row in rows if row[1] == "done"}
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in target.glob("*.onnx")}
    return {
        "outputs": len(digests),
        "equal": sum(digests.get(path.name) == recorded.get(path.name, "") for path in source.iterdir()),
        "left over": [path.name for path in target.iterdir() if path.name.startswith(".") and path.name != ".bnfold"],
        "jobs": len(rows),
        "statuses": dict(Counter(row[1] for row in rows)),
        "attempts": sum(row[2] for row in rows),
        "more attempts": sum(row[2] > 1 for row in rows),
    }


def _requests(lines: Iterable[str]) -> dict[str, Any]:
    """What was sent to the servers, by the log of the balancer."""
    answers, submitted, cancelled, requests = Counter[str](), Counter[str](), set[str](), 0
    for method, path, status, job in (found.groups() for found in map(LINE.match, lines) if found):
        requests += 1
        if path == "/v1/fold":
            answers[status] += 1
            submitted.update([job] if job != "-" else [])
        elif method == "DELETE" and (named := JOB_PATH.match(path)):
            cancelled.add(named[1])
    return {
        "requests": requests,
        "submissions": dict(answers),
        "submitted again": sum(times > 1 for times in submitted.values()),
        "cancelled": cancelled,
        "cancelled and sent again": len(cancelled & submitted.keys()),
    }
