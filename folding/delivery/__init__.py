"""Delivery: what goes with a model to whoever runs it: its card, the digests of its files, a folder for Triton.

card (metadata of the file: what was done, by what, to what), digest (`sha256sum` reads it, tools sign it), triton
(config.pbtxt), place (where the files of one fold go, all or none).

May import: `folding.conversion`, `folding.graph`, `folding.onnxfile`, `folding.report`, `folding.options`.
"""

from folding.delivery.card import Card
from folding.delivery.place import Place, placed

__all__ = ["Card", "Place", "placed"]
