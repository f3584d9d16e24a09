"""Client: use a bnfold service on another machine (extra `client`: httpx). It never imports the package `service`.

client (fold and inspect through a service), requests (attempts, problems), files (uploads, downloads, archives),
pieces (large uploads).

May import: `folding.archive`, `folding.onnxfile`, `folding.options`, `folding.errors`.
"""

from folding.client.client import Client
from folding.errors import ServiceError

__all__ = ["Client", "ServiceError"]
