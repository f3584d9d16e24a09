"""Fetch the trained models the tests use: files inside ordinary packages, taken without installing them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "models"
PACKAGES = {  # package -> models inside it
    "rapidocr-onnxruntime==1.4.4": ["ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2.0_cls_infer"],
    "basic-pitch==0.4.0": ["nmp"],
}


def fetch() -> None:
    """Download the packages and unpack their models into FOLDER."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for package, models in PACKAGES.items():
        if all((FOLDER / f"{model}.onnx").exists() for model in models):
            continue
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(FOLDER), package]
        subprocess.run(command, check=True)
        wheel = next(FOLDER.glob(package.split("==")[0].replace("-", "_") + "*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                if Path(entry).suffix == ".onnx" and Path(entry).stem in models:
                    (FOLDER / Path(entry).name).write_bytes(archive.read(entry))
        wheel.unlink()


if __name__ == "__main__":
    fetch()
