#!/usr/bin/env python3
"""What limits a codec that was trained here: its codes, the loudness of what it makes, or the phases.

  python -m benchmarks.codec_limits --codecs valle-16khz valle-convnext --audio $LIBRISPEECH/test-other

Beside the codec's output stand what it makes of vectors that were not quantized, its magnitudes with the recording's phases, and
the recording's magnitudes with its phases, by an STFT of 40 ms every 10 ms.  Then what phases made for magnitudes give, by the fast
Griffin-Lim algorithm (Perraudin et al. 2013): for the recording's magnitudes, begun with the codec's phases and with random ones, and for
the magnitudes that a ConvNeXt codec's decoder writes, begun with the phases that it writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
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
from valle.tokenizers.convnext_codec import ConvNeXtCodec
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, load_acoustic
from valle.tokenizers.residual_codec import ResidualCodec

WINDOW_SECONDS, WINDOWS_A_HOP = 0.04, 4
MOMENTUM = 0.99  # of the fast Griffin-Lim algorithm
STEPS = 32  # of it, for the recording's magnitudes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", default=[BUNDLED_ACOUSTIC], help="names or folders of codecs that bin/trainer_codec.py made")
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="files or folders of recordings")
    parser.add_argument("--griffin-lim", type=int, nargs="*", default=[1, 4, 16, 32], help="steps behind a ConvNeXt codec's decoder")
    parser.add_argument("--max-recordings", type=int, default=46)
    parser.add_argument("--output", type=Path, default=RESULTS / "codec_limits.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    files = [file.path for file in choose_files(options.audio, options.max_recordings)]
    command = ["python -m benchmarks.codec_limits --codecs", *options.codecs, "--audio", *map(str, options.audio)]
    command += ["--griffin-lim", *map(str, options.griffin_lim), "--max-recordings", str(options.max_recordings)]
    results = {**header(command), "recordings": len(files), "codecs": {}}
    for name in options.codecs:
        results["codecs"][name] = measure(name, files, options.griffin_lim)
    write_results(options.output, results)
    print(f"written: {options.output}")


def measure(name: str, files: Sequence[Path], steps: Sequence[int] = ()) -> dict[str, Any]:
    """STOI and PESQ, by what the sound is made of."""
    codec = load_acoustic(name)
    if not isinstance(codec, ResidualCodec):
        raise UserError(f"expected a codec that was trained here, found {name}; leave it out of --codecs")
    scores: dict[str, dict[str, list[float]]] = {}
    for path in files:
        wav, rate = read_audio(path, duration=LONGEST_SECONDS)
        target = resample(wav, rate, codec.sample_rate)
        target = target[: len(target) // codec.hop_length * codec.hop_length]
        for system, output in variants(codec, torch.from_numpy(target), steps).items():
            of = scores.setdefault(system, {"stoi": [], "pesq": []})
            of["stoi"].append(stoi(output, target, codec.sample_rate))
            if has_pesq():
                of["pesq"].append(pesq_wb(output, target, codec.sample_rate))
    return {
        system: {measure: bootstrap_mean(values).to_dict() for measure, values in of.items() if values} for system, of in scores.items()
    }


@torch.inference_mode()
def variants(codec: ResidualCodec, wav: Tensor, steps: Sequence[int] = ()) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """``wav (T,)``, T a multiple of the hop -> what the codec makes of it, and what parts of that and of ``wav`` make."""
    frames = torch.tensor([len(wav) // codec.hop_length])
    latent = codec.condition(codec.analyse(wav[None], frames), None)
    vectors = codec.quantizer.decode(codec.quantizer.encode(latent))
    coded = codec.synthesise(vectors, frames)[0]
    size = round(WINDOW_SECONDS * codec.sample_rate)
    settings: dict[str, Any] = {"n_fft": size, "hop_length": size // WINDOWS_A_HOP, "window": torch.hann_window(size)}
    made, wanted = (torch.stft(sound, **settings, return_complex=True) for sound in (coded, wav))

    def sound(spectrum: Tensor) -> Tensor:
        return torch.istft(spectrum, **settings, length=len(wav))

    def heard(spectrum: Tensor) -> Tensor:
        return torch.stft(sound(spectrum), **settings, return_complex=True)

    chance = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(0)) * 2 * torch.pi
    outputs = {
        "its codes": coded,
        "its vectors, not quantized": codec.synthesise(latent, frames)[0],
        "its magnitudes, the recording's phases": sound(torch.polar(made.abs(), wanted.angle())),
        "the recording's magnitudes, its phases": sound(torch.polar(wanted.abs(), made.angle())),
        f"the recording's magnitudes, {STEPS} steps from its phases": sound(griffin_lim(wanted.abs(), made.angle(), STEPS, heard)),
        f"the recording's magnitudes, {STEPS} steps from random phases": sound(griffin_lim(wanted.abs(), chance, STEPS, heard)),
    }
    if isinstance(codec, ConvNeXtCodec) and codec.refiner is None:
        written = codec.spectra(vectors, frames)
        for count in steps:
            better = griffin_lim(written.abs(), written.angle(), count, codec.heard)
            outputs[f"its codes, {count} steps behind the decoder"] = codec.sound_of(better, frames)[0]
    return {name: output.float().numpy() for name, output in outputs.items()}


def griffin_lim(magnitude: Tensor, phase: Tensor, steps: int, heard: Callable[[Tensor], Tensor]) -> Tensor:
    """The spectrum of ``magnitude`` whose phases agree most after ``steps``; ``heard`` gives the spectrum of a spectrum's sound."""
    spectrum, before = torch.polar(magnitude, phase), torch.zeros((), dtype=torch.complex64)
    for step in range(steps):
        again = heard(spectrum)
        pushed = again + MOMENTUM * (again - before) if step else again
        spectrum, before = torch.polar(magnitude, pushed.angle()), again
    return spectrum


if __name__ == "__main__":
    main()
