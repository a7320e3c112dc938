"""The aligner: what it learns of voices it finds in another voice; files; phones that it does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_speech import TONES, utter

from valle.measures.forced_alignment import frame_labels
from valle.models.phone_aligner import STEP, AlignerConfig, AlignerError, PhoneAligner, is_aligner, letters_in_common
from valle.training.phone_aligner import FitSettings, LabelledFrames, disguised, fit, take_shares, take_statistics

Phones = list[tuple[str, float]]


def tiny_aligner() -> PhoneAligner:
    torch.manual_seed(0)
    return PhoneAligner(AlignerConfig(phones=tuple(TONES), dim=32, num_blocks=2, reach=2)).eval()


def say(seed: int, *, shift: float = 1.0) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Twelve phones of 50 to 250 ms in a voice, no two alike in a row, and their times."""
    rng = np.random.default_rng(seed)
    phones: Phones = []
    while len(phones) < 12:
        symbol = str(rng.choice(list(TONES)))
        if not phones or phones[-1][0] != symbol:
            phones.append((symbol, round(float(rng.uniform(0.05, 0.25)), 2)))
    edges = np.concatenate([[0.0], np.cumsum([seconds for _, seconds in phones])])
    times = [(symbol, float(begin), float(end)) for (symbol, _), begin, end in zip(phones, edges, edges[1:], strict=False)]
    return utter(phones, seed=seed, shift=shift), times


def corpus_of(aligner: PhoneAligner, seeds: range) -> LabelledFrames:
    mels, labels = [], []
    for seed in seeds:
        wav, times = say(seed, shift=1 + 0.06 * (seed % 3))
        mels.append(aligner.log_mels(wav).half())
        spans = [(aligner.number(symbol), begin, end) for symbol, begin, end in times]
        labels.append(frame_labels(spans, num_frames=len(mels[-1]), step=STEP, none=0))
    return LabelledFrames(mels, labels)


@pytest.fixture(scope="module")
def trained() -> PhoneAligner:
    aligner = tiny_aligner()
    corpus = corpus_of(aligner, range(20))
    take_statistics(aligner, corpus.mels)
    fit(aligner, [corpus], FitSettings(steps=40, batch_size=4, base_lr=5e-3))
    take_shares(aligner, [corpus])
    return aligner


def test_a_voice_that_was_not_heard_is_aligned(trained: PhoneAligner) -> None:
    for seed in (100, 101, 102):
        wav, times = say(seed, shift=1.03)
        aligned = trained.align(trained.posteriors(trained.log_mels(wav)), [[symbol] for symbol, _, _ in times])
        assert aligned is not None and [phone.symbol for phone in aligned.phones] == [symbol for symbol, _, _ in times]
        assert [phone.word for phone in aligned.phones] == list(range(12))
        errors = np.abs([phone.begin - begin for phone, (_, begin, _) in zip(aligned.phones, times, strict=True)])
        assert np.median(errors) <= 0.011 and errors.max() < 0.05
        assert min(phone.confidence for phone in aligned.phones) > 0.3


def test_the_own_text_scores_better_than_another(trained: PhoneAligner) -> None:
    wav, times = say(103)
    posteriors = trained.posteriors(trained.log_mels(wav))
    own, other = (trained.align(posteriors, [[symbol for symbol, _, _ in said]]) for said in (times, say(104)[1]))
    assert own is not None and other is not None and other.score < own.score - 0.3 and own.score <= 1e-9


def test_training_is_the_same_again() -> None:
    def weights() -> list[torch.Tensor]:
        aligner = tiny_aligner()
        fit(aligner, [corpus_of(aligner, range(3))], FitSettings(steps=2, batch_size=2, seed=4))
        return list(aligner.parameters())

    assert all(torch.equal(one, other) for one, other in zip(weights(), weights(), strict=True))


def test_disguises_differ_by_row_and_keep_the_shape() -> None:
    mels = tiny_aligner().log_mels(say(1)[0])[None, :50].repeat(3, 1, 1)
    changed = disguised(mels, np.random.default_rng(0))
    assert changed.shape == mels.shape and changed.isfinite().all()
    assert (changed[0] - changed[1]).abs().mean() > 0.1 and (changed[1] - changed[2]).abs().mean() > 0.1


def test_another_level_and_another_filter_change_nothing(trained: PhoneAligner) -> None:
    mels = trained.log_mels(say(105)[0])
    coloured = mels + torch.linspace(-2, 3, mels.shape[1])
    np.testing.assert_allclose(trained.posteriors(coloured), trained.posteriors(mels), atol=1e-3)


def test_frames_are_as_many_as_begin_within_the_audio() -> None:
    aligner = tiny_aligner()
    for samples, frames in ((1600, 10), (1601, 11), (159, 1), (480, 3)):
        assert aligner.log_mels(np.zeros(samples, np.float32)).shape == (frames, 40)


def test_too_little_audio_and_no_words_have_no_alignment(trained: PhoneAligner) -> None:
    posteriors = trained.posteriors(trained.log_mels(np.zeros(800, np.float32)))
    assert trained.align(posteriors, [["a", "e", "i"]]) is None and trained.align(posteriors, []) is None


def test_a_phone_that_training_lacked_is_stood_in_for_by_the_one_written_most_alike() -> None:
    aligner = PhoneAligner(AlignerConfig(phones=("a", "aɪ", "n", "ɔː"), dim=8, num_blocks=1))
    assert [aligner.classes[aligner.number(symbol)] for symbol in ("n̩", "ɔːɹ", "aɪɚ", "aʊ", "ʔ")] == ["n", "ɔː", "aɪ", "a", "(pause)"]
    assert letters_in_common("aɪ", "aɪɚ") == 2 and letters_in_common("a", "e") == 0 and letters_in_common("", "e") == 0


def test_an_aligner_is_the_same_from_its_folder(trained: PhoneAligner, tmp_path: Path) -> None:
    trained.save(tmp_path / "one", {"steps": 60})
    again, info = PhoneAligner.load(tmp_path / "one")
    mels = trained.log_mels(say(106)[0])
    assert info == {"steps": 60} and again.config == trained.config and is_aligner(tmp_path / "one") and not is_aligner(tmp_path)
    np.testing.assert_array_equal(again.posteriors(mels), trained.posteriors(mels))
    assert torch.equal(again.log_shares, trained.log_shares)


def test_a_folder_without_an_aligner_or_with_a_damaged_one_is_refused(trained: PhoneAligner, tmp_path: Path) -> None:
    with pytest.raises(AlignerError, match=r"found no config\.yaml"):
        PhoneAligner.load(tmp_path)
    trained.save(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(AlignerError, match="cannot be read"):
        PhoneAligner.load(tmp_path)
    (tmp_path / "config.yaml").write_text("phones: 3\n")
    with pytest.raises(AlignerError, match="cannot be read"):
        PhoneAligner.load(tmp_path)
