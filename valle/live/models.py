"""The models that a server was started with, by name, ready to speak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from valle.device import find_device
from valle.errors import UserError
from valle.inference.continuation import ContinueSettings
from valle.inference.pipeline import BUNDLED_MODEL, Pipeline
from valle.live.protocol import Hello, ProtocolError
from valle.models.hub import find_model
from valle.models.released import load_released
from valle.modules.transformer import Engine

Dtype = Literal["float32", "bfloat16", "float16", "int8"]
WARM_SECONDS, WARM_RATE = 0.5, 48000  # of new audio; Hz, as a browser captures


@dataclass(frozen=True)
class ModelShelf(Mapping[str, Pipeline]):
    """Pipelines by name, in the order in which they were given; the first is taken where none is named."""

    pipelines: Mapping[str, Pipeline]

    @classmethod
    def load(cls, models: Sequence[str], *, device: str, dtype: Dtype, engine: Engine) -> ModelShelf:
        """Released folders, names on the hub, or ``NAME=`` one of these; without any, the bundled model.  Raises ``UserError``."""
        found: dict[str, Pipeline] = {}
        for given in models or [str(BUNDLED_MODEL)]:
            name, folder = _named(given)
            if name in found:
                raise UserError(f"expected models of different names, found two of {name}; write --model OTHER-NAME={folder}")
            found[name] = warmed(_pipeline(folder, device=device, dtype=dtype, engine=engine))
        return cls(found)

    def __getitem__(self, name: str) -> Pipeline:
        return self.pipelines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.pipelines)

    def __len__(self) -> int:
        return len(self.pipelines)

    def choose(self, name: str | None) -> tuple[str, Pipeline]:
        """By its name, or the first; raises ``ProtocolError``."""
        if name is None:
            name = next(iter(self))
        if name not in self.pipelines:
            raise ProtocolError("unknown_model", f"expected one of the models {', '.join(self)}, found {name!r:.60}")
        return name, self.pipelines[name]


def settings_for(pipeline: Pipeline, hello: Hello) -> ContinueSettings:
    """What a hello asks for, of this model's stages; without guidance, which would read each prompt twice while somebody waits."""
    asked: dict[str, Any] = {} if hello.temperature is None else {"temperature": hello.temperature}
    sampling = {name: replace(stage.sampling, guidance=1.0, **asked) for name, stage in pipeline.model.stages().items()}
    return ContinueSettings(
        prompt_seconds=hello.prompt_seconds, max_seconds=hello.max_seconds, min_seconds=hello.min_seconds, sampling=sampling,
        level=hello.level, block_seconds=hello.block_seconds,
    )  # fmt: skip


def warmed(pipeline: Pipeline) -> Pipeline:
    """The same, once all that loads late is there, and it is known that the model can be streamed; raises ``UserError``."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(WARM_RATE).astype(np.float32)
    pieces = iter(np.array_split(noise, 10))  # as a prompt comes over a socket
    with pipeline.stream(pieces, WARM_RATE, prompt_seconds=1.0, max_seconds=WARM_SECONDS) as chunks:
        for _ in chunks:
            pass
    return pipeline


def _named(given: str) -> tuple[str, str]:
    name, equals, folder = given.partition("=")
    return (name, folder) if equals else (Path(given).name, given)


def _pipeline(folder: str, *, device: str, dtype: Dtype, engine: Engine) -> Pipeline:
    """With ``auto``, the native step wherever it can run: a server lives long enough for its start."""
    released = load_released(find_model(folder))
    if engine == "auto":
        try:
            return Pipeline(released, device=find_device(device), dtype=dtype, engine="native")
        except UserError:  # it cannot run here
            pass
    return Pipeline(released, device=find_device(device), dtype=dtype, engine=engine)
