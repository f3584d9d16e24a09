"""The data of the runtime targets and their pages, from the documents of the runtimes and the packages installed here.

``python -m tests.targets DOCUMENT...`` reads documents (onnx-tensorrt's `docs/operators.md`, ONNX Runtime's
`docs/OperatorKernels.md` and `js/web/docs/webgpu-operators.md`) and rewrites the operators of each target that they
are about. What a person decided about a target stays as it is: see `docs/targets.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.targets import datafile, documents


def main(paths: list[str]) -> None:
    for path in paths:
        for name, rows in documents.read(Path(path).read_text()).items():
            datafile.write(name, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
