"""What the documents say of the bundled tokenizers is so."""

import re
from math import log, log2

import pytest
from doc_commands import ROOT

from benchmarks.memory import SAMPLES
from valle.audio import read_audio
from valle.inference.pipeline import FADE_SECONDS, Pipeline
from valle.tokenizers.convnext_codec import ConvNeXtCodec
from valle.tokenizers.hubert import HubertTokenizer
from valle.tokenizers.mfcc import MfccKMeans
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, BUNDLED_FOLDER, BUNDLED_SEMANTIC, load_acoustic, load_semantic


@pytest.fixture(scope="module")
def codec() -> ConvNeXtCodec:
    codec = load_acoustic(BUNDLED_ACOUSTIC)
    assert isinstance(codec, ConvNeXtCodec)
    return codec


@pytest.fixture(scope="module")
def units() -> HubertTokenizer:
    units = load_semantic(BUNDLED_SEMANTIC)
    assert isinstance(units, HubertTokenizer)
    return units


def words(path: str) -> str:
    return " ".join((ROOT / path).read_text(encoding="utf-8").split())


@pytest.mark.parametrize(("name", "stored"), [("valle-16khz", "in eight bits a number"), ("valle-convnext", "in eight bits a number")])
def test_the_codecs_cards_say_their_sizes(name: str, stored: str) -> None:
    codec, card = load_acoustic(name), words(f"valle/assets/tokenizers/{name}/README.md")
    assert isinstance(codec, ConvNeXtCodec)
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    size = (BUNDLED_FOLDER / name / "model.safetensors").stat().st_size
    rate = codec.identity.grid.rate
    bits = rate * log2(codec.codebook_size) / 1000
    assert f"{rate:g} frames a second, {codec.num_codebooks} codebooks of {codec.codebook_size}" in card
    assert f"{codec.num_codebooks * bits:g} kbit/s at most, {bits:g} kbit/s a codebook" in card
    assert f"{parameters / 1e6:.1f} M parameters, {size / 1e6:.1f} MB {stored}" in card
    assert f"{codec.left_context / codec.sample_rate:.2f} s before it and {codec.right_context / codec.sample_rate:.2f} s after it" in card
    assert f"STFT of {codec.settings.n_fft} samples every {codec.settings.stft_hop}" in card


def test_the_card_of_the_mfcc_units_says_their_sizes() -> None:
    units = load_semantic("mfcc-kmeans")
    assert isinstance(units, MfccKMeans)
    card = words("valle/assets/tokenizers/mfcc-kmeans/README.md")
    size = (BUNDLED_FOLDER / "mfcc-kmeans" / "model.safetensors").stat().st_size
    assert (
        f"{units.identity.grid.rate:g} a second, {units.num_units} of them: {units.identity.grid.rate * log2(units.num_units):.0f} bit/s"
        in card
    )
    assert f"a unit depends on {units.left_context / units.sample_rate:.2f} s before it and after it" in card
    assert f"{size / 1000:.0f} kB" in card


@pytest.mark.parametrize("name", ["valle-hubert", "valle-whisper"])
def test_the_cards_of_the_units_say_their_sizes(name: str) -> None:
    units, card = load_semantic(name), words(f"valle/assets/tokenizers/{name}/README.md")
    assert isinstance(units, HubertTokenizer)
    rate, size = units.identity.grid.rate, (BUNDLED_FOLDER / name / "model.safetensors").stat().st_size
    parameters = sum(parameter.numel() for parameter in units.parameters())
    assert f"{rate:g} a second, {units.num_units} of them: {rate * log2(units.num_units):.0f} bit/s" in card
    assert f"{parameters / 1e6:.1f} M parameters, {size / 1e6:.1f} MB in eight bits a number" in card
    assert f"{units.left_context / units.sample_rate:.2f} s before it and {units.right_context / units.sample_rate:.2f} s after it" in card
    assert f"{units.settings.encoder.num_layers} blocks of a transformer {units.settings.encoder.d_model} wide" in card


def test_the_curves_begin_where_the_page_says(codec: ConvNeXtCodec, units: HubertTokenizer) -> None:
    page = words("docs/curves.md")
    assert f"{log(units.num_units + 2):.2f} for the {units.num_units} bundled units with BOS and EOS" in page
    assert f"{log(codec.codebook_size):.2f} for {codec.codebook_size} codes" in page


def test_a_prompt_keeps_what_the_page_says() -> None:
    page, pipeline = words("docs/waveform.md"), Pipeline.from_pretrained()
    wav, rate = read_audio(min(SAMPLES.glob("*.flac")))
    [result] = pipeline.continue_audio(wav, rate, prompt_seconds=3, max_seconds=0.1)
    frames, seconds = result.own_samples // pipeline.acoustic.hop_length, result.own_samples / result.sample_rate
    assert f"Of a prompt of 3 s, the codec keeps {frames} frames: the first {seconds:.2f} s" in page
    assert f"a crossfade of {1000 * FADE_SECONDS:g} ms" in page and f"({1000 * float(pipeline.timeline.period):g} ms" in page


def test_the_front_page_says_the_sizes_of_the_cards() -> None:
    front = words("README.md")
    assert "7.9 M parameters, 15.7 MB" in words("valle/assets/audio-lm/README.md") and "7.9 M parameters, 15.7 MB" in front
    for name in ("valle-convnext", "valle-16khz", "valle-whisper", "valle-hubert"):
        size = re.search(r"[\d.]+ M parameters, [\d.]+ MB", words(f"valle/assets/tokenizers/{name}/README.md"))
        assert size and size[0] in front.partition(f"[{name}]")[2][:200]


def test_the_samples_are_small_and_as_long_as_their_page_says() -> None:
    folder = ROOT / "docs" / "samples"
    page = (folder / "README.md").read_text(encoding="utf-8")
    sounds = sorted(folder.glob("*.flac"))
    assert len(sounds) == 5 and sum(path.stat().st_size for path in sounds) < 1_000_000
    for sound, prompt in zip(sounds, sorted(SAMPLES.glob("*.flac")), strict=True):
        wav, rate = read_audio(sound)
        own, _ = read_audio(prompt)
        assert (wav[: 2 * rate] == own[: 2 * rate]).all(), "a sample begins with its prompt's own samples"
        assert re.search(rf"{sound.name}.*{prompt.stem}.*\| {sound.stem} \| {len(wav) / rate - 3:.2f} s \|", page)
