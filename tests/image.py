"""Run every step of the Dockerfile without a container engine, then serve as the image would and fold a model with it.

    python -m tests.image [FOLDER]

Each stage has the files of this system under a layer of its own in FOLDER, as a container has those of its base image:
all that a step writes lies in the layer, nothing on this system changes. It needs root on Linux, bubblewrap and the
network. `tests/test_image.py` holds what can be held without them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import ROOT
from tests.support.fleets import save

DOCKERFILE = ROOT / "Dockerfile"
# What a container engine would do at the end: make a key, serve, ask for the health, send a model, find the inventory.
# What a worker of a cluster needs is there, too.
SERVE = """\
set -eu
test "$(id -u)" != 0 && test -w "$BNFOLD_DATA" && test ! -w /opt/bnfold
test -s /opt/bnfold/sbom.cdx.json
export BNFOLD_KEY=$({entry} keys add probe)
{entry} {command} 2>/tmp/serve.log & server=$!
until {health} 2>/dev/null; do kill -0 $server || {{ cat /tmp/serve.log; exit 1; }}; done
{entry} fold /models/model.onnx -o /models/folded.onnx --server "http://127.0.0.1:$BNFOLD_PORT"
test -s /models/folded.onnx
python -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:8000/readyz").read().decode())' >/tmp/ready
cat /tmp/ready
grep -qE '"sandbox": ?"({sandbox})"' /tmp/ready
python -c 'import obstore, procrastinate, psycopg, service.engine.member, service.tracing.telemetry'
{entry} worker 2>/tmp/worker.log && exit 1  # it wants a cluster, and says so
grep -q BNFOLD_ENGINE=cluster /tmp/worker.log
kill $server; wait $server
rm -r "$BNFOLD_DATA"/* /models/folded.onnx
"""
# Most containers forbid namespaces: bubblewrap is there then, and fails.
SANDBOXES = {"bubblewrap|landlock": (), "landlock": ("--ro-bind", "/bin/false", "/usr/bin/bwrap")}


@dataclass
class Step:
    """One instruction of a Dockerfile."""

    name: str
    text: str
    flags: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


def steps(text: str) -> list[Step]:
    """The instructions of a Dockerfile, in order."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    found = []
    for line in filter(None, map(str.strip, lines)):
        name, _, rest = line.partition(" ")
        flags = {}
        while given := re.match(r"\s*--([a-z-]+)=(\S+)\s+", rest):
            flags[given[1]] = given[2]
            rest = rest[given.end() :]
        found.append(Step(name.upper(), rest.strip(), flags))
    return found


@dataclass
class Stage:
    """The layer of a stage, and what its instructions said so far."""

    layer: Path
    env: dict[str, str]
    user: str = "0:0"
    folder: str = "/"

    def run(self, command: list[str], *, network: bool = True, binds: tuple[str, ...] = ()) -> None:
        """Run a command in the stage, as its user and in its folder; `binds` put other files in place of its own."""
        whole = self.layer.with_suffix(".whole")
        whole.mkdir(exist_ok=True)
        work = self.layer.with_suffix(".work")
        work.mkdir(exist_ok=True)
        options = f"lowerdir=/,upperdir={self.layer},workdir={work}"
        uid, _, gid = self.user.partition(":")
        become = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--"] if uid != "0" else []
        files = ["--bind", str(whole), "/", "--dev", "/dev", "--proc", "/proc", "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
        files += binds
        sandbox = ["bwrap", *files, "--unshare-pid", "--die-with-parent", "--cap-add", "ALL", "--chdir", self.folder]
        inner = [*sandbox, *([] if network else ["--unshare-net"]), *become, *command]
        mount = (
            f"mount -t overlay overlay -o {shlex.quote(options)} {shlex.quote(str(whole))} && exec {shlex.join(inner)}"
        )
        subprocess.run(["unshare", "--mount", "sh", "-c", mount], env=self.env, check=True)

    def place(self, path: str) -> Path:
        """Where a path of the stage lies in its layer."""
        return self.layer / os.path.normpath(Path(self.folder, path)).lstrip("/")


def copy(step: Step, stage: Stage, stages: dict[str, Stage]) -> None:
    """COPY: a folder's contents, or files."""
    *sources, target = step.words
    place = stage.place(target)
    for source in sources:
        given = stages[step.flags["from"]].place(source) if "from" in step.flags else ROOT / source
        if given.is_dir():
            shutil.copytree(
                given, place, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(given, place)


def build(folder: Path) -> tuple[Stage, dict[str, Step]]:
    """Run all steps; returns the last stage, and the last instruction of each name."""
    stages: dict[str, Stage] = {}
    last: dict[str, Step] = {}
    python = Path(sys.base_prefix)
    for step in steps(DOCKERFILE.read_text()):
        print(f"=== {step.name} {step.text}", flush=True)
        last[step.name] = step
        if step.name == "FROM":
            name = step.text.partition(" AS ")[2] or "last"
            layer = folder / name
            layer.mkdir()
            env = os.environ | {"PATH": f"{python}/bin:{os.environ['PATH']}", "HOME": "/root"}
            stage = stages[name] = Stage(layer, env)
            # The base image's Python may be read by everybody; this system's may lie in a home.
            stage.run(["chmod", "a+x", *(str(parent) for parent in python.parents)])
        elif step.name == "RUN":
            stage.run(["sh", "-c", step.text])
        elif step.name == "COPY":
            copy(step, stage, stages)
        elif step.name == "WORKDIR":
            stage.folder = step.text
            stage.place(".").mkdir(parents=True, exist_ok=True)
        elif step.name == "ENV":
            for given in step.words:
                key, _, value = given.partition("=")
                stage.env[key] = value.replace("$PATH", stage.env["PATH"])
        elif step.name == "USER":
            stage.user = step.text
    return stage, last


def main(argv: list[str]) -> None:
    """Build in the folder that is named, or in one that is removed again."""
    with tempfile.TemporaryDirectory(prefix="bnfold-image-") as temporary:
        folder = Path(argv[0] if argv else temporary).resolve()
        stage, last = build(folder)
        save(stage.place("/models/model.onnx"))
        stage.env = {"PATH": stage.env["PATH"], "HOME": "/home/bnfold"} | {
            name: value for name, value in stage.env.items() if name.startswith("BNFOLD_")
        }
        health = Step("CMD", last["HEALTHCHECK"].text.removeprefix("CMD").strip())
        said = {"entry": last["ENTRYPOINT"], "command": last["CMD"], "health": health}
        said = {name: shlex.join(step.words) for name, step in said.items()}
        stage.env["BNFOLD_SANDBOX"] = "require"
        for sandbox, binds in SANDBOXES.items():
            stage.run(["sh", "-c", SERVE.format(sandbox=sandbox, **said)], network=False, binds=binds)
    print("every step ran; the image serves, with namespaces and without")


if __name__ == "__main__":
    main(sys.argv[1:])
