"""Frames of one row as a decoder draws them, while the units that they go along are still being made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from valle.decoding.engine import Decoder
from valle.models.unit_feed import UnitReader


def frames_as_drawn(
    decoder: Decoder,
    units: UnitReader | None,
    frames_of: Callable[[Tensor], Tensor],
    *,
    tokens_a_frame: int = 1,
    tail: int = 0,
    on_end: Callable[[int], None] = lambda total: None,
) -> Iterator[Tensor]:
    """New frames ``(n, Q)``, made by ``frames_of`` the tokens of each step; without units, as many as the decoder was asked for.

    A row of n frames has ``tokens_a_frame * n + tail`` tokens.  With units, the row ends where they do: ``on_end`` is told its frames,
    before anything after its last frame is drawn.
    """
    drafts = decoder.request.sampling.drafts
    ahead = 0 if drafts is None else drafts.tokens  # that a step may add beside its own

    def find_end() -> None:
        """Look as far ahead as the next step may reach."""
        assert units is not None
        wanted = (decoder.known[0] + ahead) // tokens_a_frame + 1
        total = units.num_frames(wanted)
        if total < wanted:
            on_end(total)
            had_frames = decoder.known[0] > decoder.prompt_lengths[0] or total * tokens_a_frame > decoder.known[0]
            decoder.end_after(tokens_a_frame * total + tail if had_frames else decoder.known[0])
        units.forget(units.feed.periods.unit_of_frame(decoder.start[0] // tokens_a_frame))

    if units is not None:
        find_end()
    if all(decoder.ended):
        return
    for step in decoder:
        frames = frames_of(step.new[0])
        if len(frames):
            yield frames
        if units is not None and not all(decoder.ended):
            find_end()
