"""Where the training of a codec begins: from nothing, or from what fits of another."""

from pathlib import Path

import pytest
import torch
from tiny_codec import audio_manifest, codec_options

from valle.tokenizers.registry import save_tokenizer
from valle.training.codec_task import REVIVE_EVERY, CodecTask


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return audio_manifest(tmp_path)


def test_blocks_of_a_codec_of_other_spectra_begin_it_and_the_rest_is_new(manifest: Path, tmp_path: Path) -> None:
    before = CodecTask(codec_options(manifest, tmp_path / "before", codec="convnext")).codec
    save_tokenizer(before, tmp_path / "codec")
    spectra = {"stft_frames": 2, "n_fft": 640}
    after = CodecTask(codec_options(manifest, tmp_path / "after", codec="convnext", init_blocks=str(tmp_path / "codec"), **spectra)).codec
    alone = CodecTask(codec_options(manifest, tmp_path / "alone", codec="convnext", **spectra)).codec
    old, new, anew = before.state_dict(), after.state_dict(), alone.state_dict()
    resized = {name for name in new if new[name].shape != old[name].shape}
    assert {"encoder_input.weight", "decoder_output.weight"} <= resized < new.keys()
    assert all(torch.equal(new[name], (anew if name in resized else old)[name]) for name in new)
    assert not torch.equal(new["encoder.blocks.0.expand.weight"], anew["encoder.blocks.0.expand.weight"])


@pytest.mark.parametrize("change", [{"codebook_size": 12}, {"num_quantizers": 5}])
def test_codebooks_that_do_not_all_fit_start_by_k_means(change: dict[str, int], manifest: Path, tmp_path: Path) -> None:
    before = CodecTask(codec_options(manifest, tmp_path / "before", codec="convnext")).codec
    save_tokenizer(before, tmp_path / "codec")
    after = CodecTask(codec_options(manifest, tmp_path / "after", codec="convnext", init_blocks=str(tmp_path / "codec"), **change)).codec
    assert torch.equal(after.state_dict()["encoder.blocks.0.expand.weight"], before.state_dict()["encoder.blocks.0.expand.weight"])
    assert all(book.count[0] != 1 for book in after.quantizer.codebooks)  # the mean use in k-means; at random it would be 1


def test_unused_codes_stay_as_they_are_in_the_last_fifth_of_a_run(manifest: Path, tmp_path: Path) -> None:
    task = CodecTask(codec_options(manifest, tmp_path / "run"))
    revives = []
    for share_done in (0.0, 0.8, 0.81):
        task.after_step(REVIVE_EVERY - 1, share_done)
        revives.append(task.model.revive)
    assert revives == [True, True, False]


def test_a_new_soundstream_begins_with_vectors_of_about_unit_size_for_speech(manifest: Path, tmp_path: Path) -> None:
    """At the size of samples biases drown what is heard: a run stayed at two dimensions of 64, and was no speech."""
    codec = CodecTask(codec_options(manifest, tmp_path / "run", codec="soundstream", channels=8, dim=64, strides=[2, 4, 5, 8])).codec
    torch.manual_seed(0)
    latent = codec.analyse(0.06 * torch.randn(4, 16000), torch.full((4,), 50)).detach()
    assert 0.3 < float(latent.std()) < 3
