"""The acoustic delay: level 0 of a frame first, the other levels some steps later."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.modules.acoustic_delay import AcousticDelay


def test_step_s_holds_level_0_of_frame_s_and_the_others_of_frame_s_less_the_delay() -> None:
    codes = torch.tensor([[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1, 2], [9, 9, 9], [9, 9, 9]]])
    delayed = AcousticDelay(1, missing=10).apply(codes, torch.tensor([3, 1]))
    assert delayed[0].tolist() == [[0, 10, 10], [3, 1, 2], [6, 4, 5], [10, 7, 8]]
    assert delayed[1].tolist() == [[0, 10, 10], [10, 1, 2], [10, 10, 10], [10, 10, 10]]


@given(steps=st.integers(0, 2), frames=st.integers(0, 5), levels=st.integers(1, 4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_undoing_a_delay_gives_the_codes_and_each_stood_in_one_step(steps: int, frames: int, levels: int) -> None:
    codes = torch.randint(7, (2, frames, levels), generator=torch.Generator().manual_seed(frames))
    delay = AcousticDelay(steps, missing=7)
    delayed = delay.apply(codes, torch.tensor([frames, frames]))
    assert delayed.shape == (2, frames + steps, levels) and int((delayed != 7).sum()) == codes.numel()
    assert torch.equal(delay.undo(delayed), codes)


@given(steps=st.integers(0, 2), start=st.integers(0, 4), frames=st.integers(0, 5))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_window_from_the_middle_begins_as_a_crop_does(steps: int, start: int, frames: int) -> None:
    codes = torch.randint(7, (1, start + frames, 3), generator=torch.Generator().manual_seed(frames))
    delay, lengths = AcousticDelay(steps, missing=7), torch.tensor([start + frames])
    window = delay.apply(codes, lengths)[0, start:]
    assert torch.equal(delay.as_begun(window), delay.apply(codes[:, start:], lengths - start)[0])
