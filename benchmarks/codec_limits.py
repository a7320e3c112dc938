#!/usr/bin/env python3
"""What limits a codec that was trained here: its codes, the loudness of what it makes, or the phases.

  python -m benchmarks.codec_limits --codecs valle-16khz valle-convnext --audio $LIBRISPEECH/test-other

Beside the codec's output stand what it makes of vectors that were not quantized, its magnitudes with the recording's phases, and
the recording's magnitudes with its phases, by an STFT of 40 ms every 10 ms.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import RESULTS, header, write_results
from valle.audio import read_audio, resample
from valle.errors import UserError
from valle.evaluation.codec_report import LONGEST_SECONDS
from valle.evaluation.evaluate_codec import choose_files
from valle.measures.intervals import bootstrap_mean
from valle.measures.sound import has_pesq, pesq_wb, stoi
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, load_acoustic
from valle.tokenizers.residual_codec import ResidualCodec

WINDOW_SECONDS, WINDOWS_A_HOP = 0.04, 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", default=[BUNDLED_ACOUSTIC], help="names or folders of codecs that bin/trainer_codec.py made")
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="files or folders of recordings")
    parser.add_argument("--max-recordings", type=int, default=46)
    parser.add_argument("--output", type=Path, default=RESULTS / "codec_limits.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    files = [file.path for file in choose_files(options.audio, options.max_recordings)]
    command = ["python -m benchmarks.codec_limits --codecs", *options.codecs, "--audio", *map(str, options.audio)]
    results = {**header(command), "recordings": len(files), "codecs": {name: measure(name, files) for name in options.codecs}}
    write_results(options.output, results)
    print(f"written: {options.output}")


def measure(name: str, files: Sequence[Path]) -> dict[str, Any]:
    """STOI and PESQ, by what the sound is made of."""
    codec = load_acoustic(name)
    if not isinstance(codec, ResidualCodec):
        raise UserError(f"expected a codec that was trained here, found {name}; leave it out of --codecs")
    scores: dict[str, dict[str, list[float]]] = {}
    for path in files:
        wav, rate = read_audio(path, duration=LONGEST_SECONDS)
        target = resample(wav, rate, codec.sample_rate)
        target = target[: len(target) // codec.hop_length * codec.hop_length]
        for system, output in variants(codec, torch.from_numpy(target)).items():
            of = scores.setdefault(system, {"stoi": [], "pesq": []})
            of["stoi"].append(stoi(output, target, codec.sample_rate))
            if has_pesq():
                of["pesq"].append(pesq_wb(output, target, codec.sample_rate))
    return {
        system: {measure: bootstrap_mean(values).to_dict() for measure, values in of.items() if values} for system, of in scores.items()
    }


@torch.inference_mode()
def variants(codec: ResidualCodec, wav: Tensor) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """``wav (T,)``, T a multiple of the hop -> what the codec makes of it, and what parts of that and of ``wav`` make."""
    frames = torch.tensor([len(wav) // codec.hop_length])
    latent = codec.condition(codec.analyse(wav[None], frames), None)
    coded = codec.synthesise(codec.quantizer.decode(codec.quantizer.encode(latent)), frames)[0]
    size = round(WINDOW_SECONDS * codec.sample_rate)
    settings: dict[str, Any] = {"n_fft": size, "hop_length": size // WINDOWS_A_HOP, "window": torch.hann_window(size)}
    made, wanted = (torch.stft(sound, **settings, return_complex=True) for sound in (coded, wav))
    outputs = {
        "its codes": coded,
        "its vectors, not quantized": codec.synthesise(latent, frames)[0],
        "its magnitudes, the recording's phases": torch.istft(torch.polar(made.abs(), wanted.angle()), **settings, length=len(wav)),
        "the recording's magnitudes, its phases": torch.istft(torch.polar(wanted.abs(), made.angle()), **settings, length=len(wav)),
    }
    return {name: output.float().numpy() for name, output in outputs.items()}


if __name__ == "__main__":
    main()
