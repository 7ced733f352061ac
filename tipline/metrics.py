"""The metrics registry: prometheus-client behind the typed catalogue of `streams.ports`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streams.ports import METRICS, MetricName

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class PrometheusMetrics:
    """Implements `streams.ports.Metrics` on a registry of its own. Unknown names and labels raise KeyError or ValueError."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for name, info in METRICS.items():
            if info.kind == "counter":
                self._counters[name] = Counter(name, info.help, info.labels, registry=self.registry)
            elif info.kind == "gauge":
                self._gauges[name] = Gauge(name, info.help, info.labels, registry=self.registry)
            else:
                self._histograms[name] = Histogram(
                    name, info.help, info.labels, registry=self.registry, buckets=_BUCKETS
                )

    def count(self, name: MetricName, amount: float = 1, **labels: str) -> None:
        """Adds to a counter."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def observe(self, name: MetricName, value: float, **labels: str) -> None:
        """Adds an observation to a histogram."""
        histogram = self._histograms[name]
        (histogram.labels(**labels) if labels else histogram).observe(value)

    def gauge(self, name: MetricName, value: float, **labels: str) -> None:
        """Sets a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def clear(self, name: MetricName) -> None:
        """Forgets all label sets of a gauge, before it is measured anew."""
        self._gauges[name].clear()

    def render(self) -> bytes:
        """The text that `/metrics` answers."""
        return generate_latest(self.registry)
