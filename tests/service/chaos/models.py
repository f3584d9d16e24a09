"""The models that clients of chaos send: how each has to end is known when it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from folding import api
from folding.options import Options
from tests.support.service.instant import BAD, HANG, folded
from tests.support.service.server import model_bytes, slow

if TYPE_CHECKING:
    import random
    from pathlib import Path

LONGEST = 1.0  # seconds of a fold
BAD_ONE_IN, LARGE_ONE_IN = 8, 8
LARGE = 1_300_000  # bytes: of several blocks


@dataclass(frozen=True)
class Model:
    """The bytes of an upload, and what they deserve: a result, or a problem that is their own fault."""

    content: bytes
    result: bytes = b""
    problem: str = ""


def instant(rng: random.Random, name: str) -> Model:
    """A model whose fold takes up to a second and no work; some are large, some are no model."""
    size = LARGE if rng.randrange(LARGE_ONE_IN) == 0 else rng.randrange(2000)
    rest = f"\n{name}\n".encode() + rng.randbytes(size)
    if rng.randrange(BAD_ONE_IN) == 0:
        return Model(BAD + rest, problem="invalid-model")
    content = f"SLOW{rng.uniform(0, LONGEST):.2f}".encode() + rest
    return Model(content, folded(content))


def hanging(name: str) -> Model:
    """A model whose fold never ends."""
    return Model(HANG + name.encode(), problem="timed-out")


class Real:
    """Real models, and what the library makes of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def __call__(self, rng: random.Random, name: str) -> Model:
        """A model that is folded after up to a second."""
        seed = rng.getrandbits(32)
        if rng.randrange(BAD_ONE_IN) == 0:
            return Model(b"no model " + name.encode(), problem="invalid-model")
        source, target = (self._folder / f"{seed}-{which}.onnx" for which in ("model", "folded"))
        source.write_bytes(model_bytes(seed))
        api.fold(source, target, Options(verify=False))
        return Model(slow(round(rng.uniform(0, LONGEST), 2), seed), target.read_bytes())
