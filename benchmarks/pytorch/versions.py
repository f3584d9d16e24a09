"""What a table was measured with, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "torchao", "onnx", "onnxscript", "onnxruntime", "timm", "pytorchcv", "scikit-learn")


def measured() -> str:
    """A sentence with the day and the versions of the packages that are installed."""
    found = ", ".join(f"{name} {one}" for name in ("bnfold", *PACKAGES) if (one := _version(name)))
    return f"Measured on {datetime.now(UTC):%Y-%m-%d} with {found}."


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
