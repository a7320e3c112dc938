"""What something is fitted on: all speakers, whatever the manifest's order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from tiny_audio import write_sound

from valle.corpora.manifests import read_cuts, write_cuts
from valle.tokenizers.kmeans_fit import Alone
from valle.tokenizing.training_audio import choose_cuts_to_hear, training_audio


def manifest(path: Path, speakers: list[int], *, audio: bool = False) -> Path:
    """Cuts of a second, each by one of these speakers."""
    cuts = []
    for number, speaker in enumerate(speakers):
        wav = path.parent / f"{number}.wav"
        if audio:
            write_sound(wav, 1.0, seed=number)
        source = AudioSource(type="file", channels=[0], source=str(wav))
        recording = Recording(id=f"r{number}", sources=[source], sampling_rate=16000, num_samples=16000, duration=1.0)
        said = SupervisionSegment(id=f"s{number}", recording_id=f"r{number}", start=0, duration=1.0, speaker=f"voice {speaker}")
        cuts.append(MonoCut(id=f"c{number}", start=0, duration=1.0, channel=0, recording=recording, supervisions=[said]))
    write_cuts(cuts, path)
    return path


def heard(path: Path, *, seconds: int, seed: int = 0) -> Counter:
    """How often each speaker is chosen."""
    chosen = choose_cuts_to_hear([path], hours=seconds / 3600, seed=seed)
    cuts = list(read_cuts(path))
    return Counter(cuts[number].supervisions[0].speaker for _, number in chosen)


def test_speakers_who_take_turns_are_all_heard(tmp_path: Path) -> None:
    path = manifest(tmp_path / "cuts.jsonl.gz", [number % 4 for number in range(40)])  # of which every fourth is by one of them
    assert sorted(heard(path, seconds=10).values()) == [2, 2, 3, 3]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(speakers=st.lists(st.integers(0, 3), min_size=10, max_size=40), seconds=st.integers(4, 45), seed=st.integers(0, 9))
def test_nobody_is_heard_again_before_all_who_have_more_to_say(tmp_path_factory, speakers: list[int], seconds: int, seed: int) -> None:
    counts = heard(manifest(tmp_path_factory.mktemp("m") / "cuts.jsonl.gz", speakers), seconds=seconds, seed=seed)
    assert sum(counts.values()) == min(seconds, len(speakers))
    has = Counter(f"voice {speaker}" for speaker in speakers)
    most = max(counts.values())
    assert all(counts[voice] >= min(most - 1, has[voice]) for voice in has)


def test_processes_share_the_chosen_audio_between_them(tmp_path: Path) -> None:
    path = manifest(tmp_path / "cuts.jsonl.gz", [0, 0, 1, 2, 1, 0], audio=True)

    def audio(rank: int, size: int) -> list[np.ndarray]:
        return list(training_audio([path], sample_rate=8000, hours=5 / 3600, seed=1, processes=Alone(rank=rank, size=size)))

    whole, shares = audio(0, 1), [audio(rank, 2) for rank in range(2)]
    assert len(whole) == 5 and [len(share) for share in shares] == [3, 2] and all(len(wav) == 8000 for wav in whole)
    for number, wav in enumerate(whole):
        np.testing.assert_array_equal(wav, shares[number % 2][number // 2])
