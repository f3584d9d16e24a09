"""The data of the runtime targets and their pages, from the documents of the runtimes and the packages installed here.

``python -m tests.targets`` asks the packages that are installed (ONNX Runtime with its providers, its WebGPU plugin,
OpenVINO), rewrites the operators of these targets, and writes a page for every target, `docs/targets/NAME.md`.
``python -m tests.targets DOCUMENT...`` reads documents instead: onnx-tensorrt's `docs/operators.md`, ONNX Runtime's
`docs/OperatorKernels.md` and `js/web/docs/webgpu-operators.md`. What a person decided stays: see `docs/targets.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.targets import datafile, documents, installed, pages


def main(paths: list[str]) -> None:
    sources = [documents.read(Path(path).read_text()) for path in paths] or [installed.asked()]
    for source in sources:
        for name, rows in source.items():
            datafile.write(name, rows)
    pages.write()


if __name__ == "__main__":
    main(sys.argv[1:])
