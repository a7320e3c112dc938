"""Where a prompt's own samples end, and those that were generated go on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from valle.audio import Waveform


@dataclass(frozen=True)
class Joint:
    """A crossfade of ``fade`` samples from sample ``own`` of the prompt on; both end within the prompt."""

    own: int
    fade: int

    @classmethod
    def after(cls, prompt: Waveform, *, known: int, fade: int) -> Joint:
        """Where the tokens of ``prompt (T,)`` that were kept end, which is after ``known`` samples, or as late as a crossfade fits."""
        fade = min(fade, len(prompt))
        return cls(own=min(known, len(prompt) - fade), fade=fade)

    def join(self, prompt: Waveform, generated: Waveform) -> Waveform:
        """``prompt (T,)`` up to here, the crossfade, then ``generated (n,)``, whose first sample is number ``own`` -> ``(own + n,)``."""
        rising = np.linspace(0, 1, self.fade, dtype=np.float32)
        faded = prompt[self.own : self.own + self.fade] * (1 - rising) + generated[: self.fade] * rising
        return np.concatenate([prompt[: self.own], faded, generated[self.fade :]])
