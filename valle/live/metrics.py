"""What Prometheus reads at ``/metrics``; nothing of who spoke or what was said."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WAITS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0, 5.0)  # seconds
FACTORS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 4.0)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.active = Gauge("valle_streams_active", "Streams that are worked on", registry=registry)
        self.queued = Gauge("valle_streams_queued", "Streams that wait for a place", registry=registry)
        self.streams = Counter("valle_streams", "Streams that have ended, by outcome", ["model", "outcome"], registry=registry)
        self.refused = Counter("valle_refused", "Requests that were refused before a stream, by code", ["code"], registry=registry)
        self.first_audio = Histogram(
            "valle_first_audio_seconds", "From the end of a prompt to the first new sample sent", buckets=WAITS, registry=registry
        )
        self.factor = Histogram(
            "valle_real_time_factor", "Seconds of work a second of new audio, of streams that were made to their end",
            buckets=FACTORS, registry=registry,
        )  # fmt: skip
        self.prompt_seconds = Counter("valle_prompt_seconds", "Seconds of prompts", registry=registry)
        self.audio_seconds = Counter("valle_audio_seconds", "Seconds of new audio that was sent", registry=registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
