import json

import numpy as np
import pytest
import torch
from tiny_pipeline import CODEBOOKS, CODES, recording, tiny_codec

from valle.evaluation.codec_report import CodecReportError, Recording, codec_report, round_trips
from valle.measures.sound import has_pesq
from valle.tokenizers.base import AcousticTokenizer


class Rounding(AcousticTokenizer):
    """A codec that surely gets better with every codebook: each keeps two more bits of every sample."""

    name, sample_rate, hop_length, left_context, right_context = "rounding", 16000, 1, 0, 0
    num_codebooks, codebook_size = 4, 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def config(self) -> dict:
        return {"name": self.name}

    def encode(self, wav: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole = ((wav.clamp(-1, 1) + 1) / 2 * 255).round().long()
        return torch.stack([whole >> 6, whole >> 4 & 3, whole >> 2 & 3, whole & 3], -1), lengths

    def decode(self, codes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        shifts = torch.tensor([6, 4, 2, 0])[: codes.shape[-1]]
        return (codes << shifts).sum(-1) / 255 * 2 - 1


def recordings(count: int = 3) -> list[Recording]:
    return [Recording(recording(2.0, seed=seed), 16000) for seed in range(count)]


def test_more_codebooks_score_better_between_silence_and_the_identity() -> None:
    systems = codec_report(Rounding(), recordings())["systems"]
    assert list(systems) == ["1", "2", "4", "identity", "silence"]
    for measure, worst_to_best in (("stoi", 1), ("mel_l1", -1), ("si_sdr", 1)):
        scores = [worst_to_best * systems[name][measure]["mean"] for name in ("1", "2", "4", "identity")]
        assert scores == sorted(scores) and len(set(scores)) == 4
    assert systems["silence"]["stoi"]["mean"] < 0.05 and systems["identity"]["mel_l1"]["mean"] == 0
    assert systems["4"]["stoi"]["count"] == 3


def test_a_report_is_plain_json_that_names_the_codec_and_its_measures() -> None:
    codec = tiny_codec()
    report = json.loads(json.dumps(codec_report(codec, recordings(), codebooks=[1, CODEBOOKS])))
    assert report["codec"] == str(codec.identity)
    measures = {"stoi", "mel_l1", "si_sdr", *(["pesq"] if has_pesq() else [])}
    assert set(report["definitions"]) == set(report["systems"]["identity"]) == measures
    assert report["seconds"] == pytest.approx(6)
    assert len(report["codebook_perplexity"]) == CODEBOOKS and all(1 <= value <= CODES for value in report["codebook_perplexity"])
    assert 0 <= report["bits_per_second"] <= 50 * CODEBOOKS * np.log2(CODES)


def test_recordings_of_other_rates_are_resampled_and_short_ones_left_out() -> None:
    mixed = [Recording(recording(2.0), 44100), Recording(recording(2.0), 16000), Recording(recording(0.3), 16000)]
    report = codec_report(tiny_codec(), mixed, codebooks=[1])
    assert (report["recordings"], report["left_out"]) == (2, 1)


def test_nothing_to_score_is_a_sentence() -> None:
    with pytest.raises(CodecReportError, match="found 1 shorter"):
        codec_report(tiny_codec(), [Recording(recording(0.2), 16000)])
    with pytest.raises(CodecReportError, match=r"1\.\.3, found \[1, 9\]"):
        codec_report(tiny_codec(), recordings(), codebooks=[9, 1])


def test_round_trips_keep_the_length() -> None:
    wav = recording(1.01)
    codes, outputs = round_trips(tiny_codec(), wav, [1, 2])
    assert codes.shape == (51, CODEBOOKS)
    assert {name: len(output) for name, output in outputs.items()} == {"1": len(wav), "2": len(wav)}
