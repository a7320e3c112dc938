"""Pieces of audio for codecs: what a manifest says, not what the file says."""

from pathlib import Path

import numpy as np
import torch
from lhotse import MonoCut, Recording
from tiny_audio import write_sound

from valle.data.segments import PairedDataset, SegmentDataset, Source


def cut_of(folder: Path, *, seed: int = 0) -> MonoCut:
    recording = Recording.from_file(write_sound(folder / f"{seed}.wav", 2.0, seed=seed))
    return MonoCut(id="cut", start=0.0, duration=recording.duration, channel=0, recording=recording)


def pieces_of(cut: MonoCut, *, seed: int = 0) -> SegmentDataset:
    source = Source(cuts=[cut], share=1.0)
    return SegmentDataset([source], sample_rate=16000, num_samples=3200, batch_size=8, num_batches=3, seed=seed, epoch=1)


def likeness(piece: np.ndarray, whole: np.ndarray) -> float:
    """The largest correlation of ``piece`` with any stretch of ``whole``."""
    windows = np.lib.stride_tricks.sliding_window_view(whole, len(piece))
    return float((windows @ piece / np.linalg.norm(windows, axis=1) / np.linalg.norm(piece)).max())


def test_pieces_of_a_cut_at_another_speed_are_of_that_speed(tmp_path: Path) -> None:
    cut = cut_of(tmp_path)
    slow = cut.perturb_speed(0.84)
    assert slow.duration > 2.3  # longer than the file
    whole, other = slow.load_audio()[0], cut.load_audio()[0]
    for piece in torch.cat([pieces_of(slow)[index] for index in range(3)]).numpy():
        assert likeness(piece, whole) > 0.99 > likeness(piece, other)


def test_a_piece_is_a_function_of_seed_epoch_and_number(tmp_path: Path) -> None:
    cut = cut_of(tmp_path)
    assert torch.equal(pieces_of(cut)[2], pieces_of(cut)[2])
    assert not torch.equal(pieces_of(cut)[2], pieces_of(cut)[1])
    assert not torch.equal(pieces_of(cut)[2], pieces_of(cut, seed=1)[2])


def test_pairs_stand_side_by_side(tmp_path: Path) -> None:
    first, second = pieces_of(cut_of(tmp_path)), pieces_of(cut_of(tmp_path, seed=1))
    pairs = PairedDataset(first, second)
    assert len(pairs) == 3 and pairs[1].shape == (8, 2, 3200)
    assert torch.equal(pairs[1][:, 0], first[1]) and torch.equal(pairs[1][:, 1], second[1])
