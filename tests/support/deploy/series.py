"""The series that a server has: the names and labels that a query may use."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram, Info

from service.metrics import Metrics

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",), "gauge": ("",)}
KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram", Info: "info"}
OF_A_SCRAPE = {"job", "instance"}  # labels that Prometheus adds, also to `up`


class Metric(NamedTuple):
    """One metric as the documentation has it."""

    name: str
    kind: str
    labels: frozenset[str]


def metrics() -> set[Metric]:
    """All metrics of a server."""
    made = Metrics()
    own = {
        one._name: (KINDS[type(one)], frozenset(one._labelnames))
        for one in vars(made).values()
        if isinstance(one, tuple(KINDS))
    }
    found = set()
    for family in made.registry.collect():
        kind, labels = own.get(family.name, (family.type, frozenset()))
        name = family.name + (SUFFIXES[kind][0] if kind in {"counter", "info"} else "")
        if kind == "info":
            kind, labels = "gauge", frozenset(key for sample in family.samples for key in sample.labels)
        found.add(Metric(name, kind, labels))
    return found


def series() -> dict[str, frozenset[str]]:
    """The labels of each name that a query may use."""
    found = {"up": frozenset(OF_A_SCRAPE)}
    for one in metrics():
        of_buckets = {"le"} if one.kind == "histogram" else set()
        for suffix in SUFFIXES["histogram"] if one.kind == "histogram" else ("",):
            found[one.name + suffix] = one.labels | OF_A_SCRAPE | (of_buckets if suffix == "_bucket" else set())
    return found
