"""Where the training of a codec begins: from nothing, or from what fits of another."""

from pathlib import Path

import pytest
import torch
from tiny_codec import audio_manifest, codec_options

from valle.errors import UserError
from valle.tokenizers.pack import PackConfig, pack_tokenizer
from valle.tokenizers.registry import load_acoustic, save_tokenizer
from valle.tokenizers.weights import rounded
from valle.training.codec_task import REVIVE_EVERY, CodecTask
from valle.training.train_codec import train_codec


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


def test_a_decoder_that_learned_alone_leaves_codes_as_they_were_also_in_eight_bits(manifest: Path, tmp_path: Path) -> None:
    """Rounding a frozen encoder that was in eight bits to half precision changed some of its codes."""
    sizes = {"codec": "convnext", "dim": 64}
    save_tokenizer(rounded(CodecTask(codec_options(manifest, tmp_path / "before", **sizes)).codec, "int8"), tmp_path / "codec")
    options = codec_options(
        manifest, tmp_path / "after", init_blocks=str(tmp_path / "codec"), freeze_encoder=True, refine_blocks=1, max_steps=2, **sizes
    )
    train_codec(options)
    pack_tokenizer(PackConfig(tokenizer=str(tmp_path / "after" / "codec"), output_dir=tmp_path / "packed"))
    before, after, packed = (load_acoustic(str(tmp_path / name)) for name in ("codec", "after/codec", "packed"))
    wav, length = 0.1 * torch.randn(1, 16000), torch.tensor([16000])
    codes = before.encode(wav, length)[0]
    for codec in (after, packed):
        assert torch.equal(codec.encode(wav, length)[0], codes)
        own, old = codec.state_dict(), before.state_dict()
        assert all(torch.equal(own[name], old[name]) for name in old if name.startswith(("encoder", "quantizer")))
        assert not torch.allclose(codec.decode(codes, torch.tensor([50])), before.decode(codes, torch.tensor([50])), atol=1e-4)


def test_losses_that_are_asked_for_are_learned_from_and_are_no_part_of_the_dev_loss(manifest: Path, tmp_path: Path) -> None:
    weights = {"stoi_weight": 2.0, "pesq_weight": 0.5, "consistency_weight": 0.3}
    pieces = {"codec": "convnext", "segment_seconds": 0.5, "quantizer_dropout": 0.0}
    losses, dev = {}, {}
    for name, chosen in (("none", {}), *((name, {name: weight}) for name, weight in weights.items())):
        task = CodecTask(codec_options(manifest, tmp_path / name, **pieces, **chosen))
        task.codec.quantizer.is_fixed = True
        torch.manual_seed(1)
        batch = task._dataset(1, task.sources, 1)[0]
        losses[name] = float(task.model.train()(batch)["codec"].sum.detach())
        dev[name] = float(task.model.eval()(batch)["codec"].sum.detach())
        observed = {"stoi_weight": "stoi", "pesq_weight": "pesq", "consistency_weight": "inconsistency"}.get(name)
        if observed is not None:
            added = weights[name] * len(batch) * task.model.report()[observed]
            assert added > 0 and losses[name] - losses["none"] == pytest.approx(added, rel=1e-3)
    assert len(set(dev.values())) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"codec": "soundstream", "refine_blocks": 1}, "--refine-blocks is for --codec convnext"),
        ({"codec": "soundstream", "consistency_weight": 1.0}, "--consistency-weight is for --codec convnext"),
        ({"codec": "convnext", "stoi_weight": 1.0}, "--stoi-weight needs pieces of 0.42 s"),
        ({"codec": "convnext", "pesq_weight": 1.0, "sample_rate": 24000}, "--pesq-weight is for codecs at 16000 Hz"),
    ],
)
def test_losses_that_do_not_fit_the_codec_are_refused(changes: dict[str, object], told: str, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        CodecTask(codec_options(manifest, tmp_path / "run", **changes))
