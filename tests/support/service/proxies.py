"""nginx and Caddy as docs/proxies.md writes them, on a port of this machine and with a certificate of their own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT
from tests.support.programs import program
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "fold.example.org"
BLOCKS = re.findall(r"```(?:nginx|caddy)\n(.*?)```", (ROOT / "docs/proxies.md").read_text(), re.DOTALL)
NGINX, CADDY, CADDY_BELOW = BLOCKS
OWN = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # folders that nginx makes


def certificate(folder: Path) -> Path:
    """A certificate of NAME and of this machine, and beside it its key."""
    if shutil.which("openssl") is None:
        pytest.skip("this test needs openssl, and it is not installed")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "2", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-subj", f"/CN={NAME}"]
    made += ["-addext", f"subjectAltName=DNS:{NAME},DNS:localhost"]
    subprocess.run(made, check=True, capture_output=True)
    return folder / "cert.pem"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def proxy(name: str, folder: Path, server: int, root: str) -> Iterator[int]:
    """The proxy in front of the server at a port, under a path; its own port."""
    command, port, cert = program(name), free_port(), certificate(folder)
    write = {"nginx": _nginx, "caddy": _caddy}[name]
    config = folder / "config"
    config.write_text(write(folder, port, cert, root).replace("127.0.0.1:8000", f"127.0.0.1:{server}"))
    arguments = {
        "nginx": ["-p", str(folder), "-e", "stderr", "-c", str(config), "-g", f"daemon off; pid {folder}/pid;"],
        "caddy": ["run", "--adapter", "caddyfile", "--config", str(config)],
    }
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "proxy.log").open("wb") as log:
        running = subprocess.Popen([command, *arguments[name]], stdout=log, stderr=log, env=environment)
        try:
            until(lambda: running.poll() is not None or listens(port))
            assert running.poll() is None, (folder / "proxy.log").read_text()
            yield port
        finally:
            running.terminate()
            running.wait()


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _nginx(folder: Path, port: int, cert: Path, root: str) -> str:
    own = "".join(f"{name}_temp_path {folder}/{name};\n" for name in OWN)
    text = NGINX.replace("http {\n", f"http {{\naccess_log off;\n{own}", 1)
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}").replace("location / {", f"location {root}/ {{")
    text = text.replace(f"/etc/ssl/{NAME}.pem", str(cert)).replace(f"/etc/ssl/{NAME}.key", str(folder / "key.pem"))
    return f"{'user root;' if os.geteuid() == 0 else ''}\n{text}"


def _caddy(folder: Path, port: int, cert: Path, root: str) -> str:
    text = CADDY_BELOW.replace("/fold", root) if root else CADDY
    sites = f"https://{NAME}:{port}, https://localhost:{port} {{\n    bind 127.0.0.1\n    tls {cert} {folder}/key.pem"
    return "{\n    admin off\n    auto_https off\n}\n" + text.replace(f"{NAME} {{", sites, 1)
