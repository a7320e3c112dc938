"""Repetition-aware sampling counts frames: a token that lasts several counts as often, and each token of a frame has its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import UNITS, tiny_model
from torch import Tensor

import valle.decoding.drawing
from valle.decoding.drawing import Known
from valle.decoding.sampling import Sampling, sample
from valle.decoding.seats import Seats

lasting = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=8)


ONE = Seats.of([0])


def known(tokens: list[int]) -> Known:
    padded = torch.tensor([[*tokens, 0, 0]])
    return Known(tokens=padded, positions=torch.tensor([len(tokens)]), counts=[len(tokens)], prompt_lengths=[0], min_new=None, seats=ONE)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(said=lasting, window=st.integers(1, 12))
def test_what_stood_in_the_last_frames_is_each_token_as_often_as_it_lasted(said: list[tuple[int, int]], window: int) -> None:
    frames = [token for token, count in said for _ in range(count)]
    found = known([token for token, _ in said]).recent(window, torch.tensor([[*(count for _, count in said), 0, 0]]))
    assert found.shape == (1, window)
    expected = frames[::-1][:window]
    assert found[0].tolist() == expected + [-1] * (window - len(expected))


def test_a_unit_counts_as_often_as_its_run_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw is watched: what it is judged by is the end of the frames said until then."""
    model = tiny_model(num_units=UNITS, unit_sequence="runs", longest_run=6).semantic
    prompt = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    seen = watched(monkeypatch)
    [new] = model.generate([prompt], max_new=[30], min_new=[20], sampling=Sampling(repetition_window=5), seeds=[3], window=100)
    frames = [*prompt.tolist(), *new.tolist()]
    assert [unit - model.first_unit for unit in seen[0]] == [1, 1, 1, 1, 0]  # the prompt's last run is said anew
    place = 0
    for recent in seen[:-1]:
        said = [unit - model.first_unit for unit in recent][::-1]
        place = next(end for end in range(place, len(frames) + 1) if frames[max(0, end - 5) : end] == said)
    assert len(seen) > 3


def test_each_level_of_a_frame_is_judged_by_as_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(num_units=None, num_quantizers=3, num_coarse=2).coarse
    seen = watched(monkeypatch)
    prompt = torch.tensor([[1, 2, 3]] * 7)
    model.generate([prompt], num_frames=[8], units=None, sampling=Sampling(repetition_window=5), seeds=[0], window=50)
    assert [len(recent) for recent in seen] == [10, 10]
    assert seen[0].count(1) == 5 and seen[0].count(2 + model.codebook_size) == 5


def watched(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What each draw of a first row is judged by, without the places before its beginning."""
    seen: list[list[int]] = []

    def watch(logits: Tensor, sampling: Sampling, noise: Any, recent: Tensor | None = None) -> Tensor:
        if recent is not None:
            seen.append([token for token in recent[0].tolist() if token >= 0])
        return sample(logits, sampling, noise, recent)

    monkeypatch.setattr(valle.decoding.drawing, "sample", watch)
    return seen
