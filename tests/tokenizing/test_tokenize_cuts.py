"""Tokens of cuts: what a tokenizer says of each clip alone, whole periods, shard by shard, after a kill the same."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut, Recording
from lhotse.cut import Cut
from tiny_audio import sound

from valle.audio import resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import ManifestFileError, write_cuts
from valle.corpora.report_reasons import PARTS
from valle.errors import UserError
from valle.measures.level import active_level, speech_gain_db, with_gain
from valle.timeline import GridMismatchError
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans
from valle.tokenizers.registry import load_acoustic, load_semantic, save_tokenizer
from valle.tokenizing.choose_tokenizers import TokenizersConfig, prepare_tokenizers
from valle.tokenizing.encode_batches import TokenizeError, batches_of_like_lengths
from valle.tokenizing.finish_cuts import FinishConfig, finish_cuts
from valle.tokenizing.tokenize_cuts import TokenizeConfig, shards_folder, tokenize_cuts

SECONDS = {"train": [1.0, 0.31, 2.5, 0.87, 1.999, 0.02, 1.5], "dev": [0.7, 1.24], "test": [0.9]}


def save_tiny_tokenizers(folder: Path, *, units: bool = True, hop: int = 320) -> None:
    torch.manual_seed(0)
    codec = ConvNeXtCodecConfig(
        name="tiny", hop_length=hop, n_fft=4 * hop, dim=16, num_blocks=1, vq_dim=4, num_codebooks=3, codebook_size=16
    )
    save_tokenizer(ConvNeXtCodec(codec), folder / "acoustic")
    if units:
        semantic = MfccKMeans(MfccConfig(num_units=12))
        semantic.centroids.normal_()
        semantic.deviation.fill_(10)
        save_tokenizer(semantic, folder / "semantic")


def write_manifests(folder: Path, seconds: dict[str, list[float]] | None = None, *, rate: int = 24000) -> Path:
    """Cuts that lie at 0.25 s of recordings at ``rate``."""
    for part, lengths in (seconds or SECONDS).items():
        cuts = []
        for number, length in enumerate(lengths):
            path = folder / "wavs" / f"{part}-{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound(length + 0.5, rate=rate, seed=10 * PARTS.index(part) + number), rate)
            recording = Recording.from_file(path)
            cuts.append(MonoCut(id=f"{part}-{number}", start=0.25, duration=length, channel=0, recording=recording))
        write_cuts(cuts, folder / "manifests" / f"cuts_{part}.jsonl.gz")
    return folder


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_tiny_tokenizers(tmp_path / "tokenizers")
    monkeypatch.chdir(tmp_path)
    return write_manifests(tmp_path)


def config(**options) -> TokenizeConfig:
    settings = {
        "manifest_dir": Path("manifests"),
        "tokenizer_dir": Path("tokenizers"),
        "output_dir": Path("tokenized"),
        "shard_seconds": 2.0,
    }
    return TokenizeConfig(**{**settings, **options})


def finish() -> dict:
    finish_cuts(FinishConfig(output_dir=Path("tokenized"), manifest_dir=Path("manifests"), report=Path("report.html")))
    return json.loads(Path("tokenized/info.json").read_text())


def cuts(part: str) -> list[Cut]:
    """In the order in which they were made; stage 4 shuffles train."""
    return sorted(CutSet.from_jsonl_lazy(f"tokenized/cuts_{part}.jsonl.gz"), key=lambda cut: cut.id)


def alone(cut: Cut, *, gain_db: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The slow twin: units and codes of a cut by itself."""
    streams = []
    for tokenizer in (load_semantic("tokenizers/semantic"), load_acoustic("tokenizers/acoustic")):
        samples, rate = read_cut(cut)
        wav = resample(with_gain(samples, gain_db), rate, tokenizer.sample_rate)
        streams.append(tokenizer.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))[0][0].numpy())
    return streams[0], streams[1]


def test_speech_becomes_tokens_at_one_level_and_each_cut_keeps_its_gain(corpus: Path) -> None:
    tokenize_cuts(config(level="speech", shard_seconds=100))
    assert finish()["level"] == "speech"
    for part in PARTS:
        for cut in cuts(part):
            samples, rate = read_cut(cut)
            gain_db = speech_gain_db(samples, rate)
            assert cut.gain_db == pytest.approx(gain_db, abs=1e-3) and active_level(with_gain(samples, gain_db), rate) == pytest.approx(-24)
            units, codes = alone(cut, gain_db=gain_db)
            np.testing.assert_array_equal(cut.load_units(), units[: len(cut.load_units())])
            np.testing.assert_array_equal(cut.load_codes(), codes[: len(cut.load_codes())])


def test_another_level_is_another_shard_and_none_leaves_no_gain(corpus: Path) -> None:
    tokenize_cuts(config(level="speech"))
    finish()
    before = [cut.load_codes() for cut in cuts("train")]
    tokenize_cuts(config())
    assert "level" not in finish()
    assert all("gain_db" not in cut.custom for cut in cuts("train"))
    assert any(not np.array_equal(one, cut.load_codes()) for one, cut in zip(before, cuts("train"), strict=True))


def test_tokens_in_a_batch_equal_tokens_alone_up_to_whole_periods(corpus: Path) -> None:
    tokenize_cuts(config(shard_seconds=100))
    finish()
    for part in PARTS:
        for cut in cuts(part):
            units, codes = cut.load_units(), cut.load_codes()
            periods = int(cut.duration / 0.04 + 1e-9)
            assert units.shape == (periods,) and codes.shape == (2 * periods, 3) and units.dtype == codes.dtype == np.int16
            expected_units, expected_codes = alone(cut)
            np.testing.assert_array_equal(units, expected_units[:periods])
            np.testing.assert_array_equal(codes, expected_codes[: 2 * periods])


def test_no_cut_is_lost_or_doubled_and_only_those_without_a_period_are_dropped(corpus: Path) -> None:
    parts = tokenize_cuts(config())
    finish()
    assert [cut.id for cut in cuts("train")] == [f"train-{number}" for number in (0, 1, 2, 3, 4, 6)]
    assert (parts["train"].num_cuts, parts["train"].num_dropped) == (6, 1)
    assert [len(cuts(part)) for part in ("dev", "test")] == [2, 1]


def test_cuts_and_info_bear_the_tokenizers_identities(corpus: Path) -> None:
    tokenize_cuts(config())
    info = finish()
    acoustic, semantic = load_acoustic("tokenizers/acoustic").identity, load_semantic("tokenizers/semantic").identity
    assert info["tokenizers"] == {"acoustic": acoustic.to_dict(), "semantic": semantic.to_dict()}
    assert info["timeline"] == {"codes": [16000, 320], "units": [16000, 640]}
    assert {cut.custom["tokenizers"] for cut in cuts("train")} == {f"{acoustic.sha256[:12]}/{semantic.sha256[:12]}"}


def test_without_units_there_are_codes_alone(corpus: Path) -> None:
    save_tiny_tokenizers(corpus / "codec only", units=False)
    tokenize_cuts(config(tokenizer_dir=Path("codec only")))
    info = finish()
    assert info["tokenizers"]["semantic"] is None and info["timeline"]["units"] is None
    cut = cuts("train")[1]
    assert not cut.has_custom("units") and cut.load_codes().shape == (15, 3) and cut.custom["tokenizers"].endswith("/")
    assert [stream["name"] for stream in info["statistics"]["train"]["streams"]] == ["codebook 0", "codebook 1", "codebook 2"]


def test_statistics_are_those_of_the_stored_tokens(corpus: Path) -> None:
    tokenize_cuts(config())
    statistics = finish()["statistics"]["train"]
    streams = {"units": np.concatenate([cut.load_units() for cut in cuts("train")])}
    for level in range(3):
        streams[f"codebook {level}"] = np.concatenate([cut.load_codes()[:, level] for cut in cuts("train")])
    for stream in statistics["streams"]:
        values = streams[stream["name"]]
        shares = np.array([np.mean(values == token) for token in set(values.tolist())])
        assert stream["tokens"] == len(values)
        assert stream["entropy"] == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-4)
        assert stream["used"] == pytest.approx(len(shares) / (12 if stream["name"] == "units" else 16), abs=1e-4)
    assert statistics["lengths"] == {"0": 2, "1": 3, "2": 1} and statistics["num_dropped"] == 1
    assert Path("tokenized/statistics.png").read_bytes()[:4] == b"\x89PNG" and "codebook 2" in Path("report.html").read_text()


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_gzip_embeds_no_time_so_that_equal_manifests_have_equal_bytes(corpus: Path) -> None:
    tokenize_cuts(config())
    finish()
    first = content(Path("tokenized"))
    for path in Path("tokenized").rglob("*.gz"):
        assert path.read_bytes()[4:8] == b"\0\0\0\0"
    for path in sorted(shards_folder(Path("tokenized")).iterdir()):
        path.unlink()
    tokenize_cuts(config(num_workers=3))
    finish()
    assert content(Path("tokenized")) == first


def test_after_a_kill_only_unfinished_shards_are_made_and_the_content_is_the_same(corpus: Path) -> None:
    tokenize_cuts(config())
    folder = shards_folder(Path("tokenized"))
    first = content(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "train-00001.json").unlink()  # as when killed before a shard's last file
    (folder / "train-00001.h5").write_bytes(b"half of it")
    (folder / ".train-00002.h5.tmp.h5").write_bytes(b"left behind")
    tokenize_cuts(config())
    assert content(folder) == first
    again = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert again == {"train-00001.json", "train-00001.h5", "train-00001.jsonl.gz", "train.json", "dev.json", "test.json"}


@pytest.mark.parametrize("change", ["cuts", "tokenizer"])
def test_shards_of_other_cuts_or_tokenizers_are_made_again(corpus: Path, change: str) -> None:
    tokenize_cuts(config())
    if change == "cuts":
        write_manifests(corpus, {"train": [0.5, 0.6], "dev": [0.5], "test": [0.5]})
    else:
        semantic = load_semantic("tokenizers/semantic")
        semantic.centroids.neg_()
        save_tokenizer(semantic, Path("tokenizers/semantic"))
    tokenize_cuts(config())
    finish()
    for cut in cuts("train"):
        np.testing.assert_array_equal(cut.load_units(), alone(cut)[0][: len(cut.load_units())])
    numbers = {path.name for path in shards_folder(Path("tokenized")).glob("train-*.h5")}
    assert numbers == ({"train-00000.h5"} if change == "cuts" else {f"train-0000{number}.h5" for number in range(3)})


def test_tokens_made_again_are_read_in_the_same_process(corpus: Path) -> None:
    tokenize_cuts(config())
    finish()
    before = cuts("train")[0].load_codes()  # lhotse keeps this file open
    codec = load_acoustic("tokenizers/acoustic")
    for codebook in codec.quantizer.codebooks:
        codebook.embedding.neg_()
    save_tokenizer(codec, Path("tokenizers/acoustic"))
    tokenize_cuts(config())
    finish()
    after = cuts("train")[0].load_codes()
    np.testing.assert_array_equal(after, alone(cuts("train")[0])[1])
    assert not np.array_equal(after, before)


def test_a_damaged_description_of_a_shard_is_made_again(corpus: Path) -> None:
    tokenize_cuts(config())
    folder = shards_folder(Path("tokenized"))
    first = content(folder)
    (folder / "train-00001.json").write_text('{"finger')
    tokenize_cuts(config())
    assert content(folder) == first


def test_a_manifest_that_was_cut_short_is_refused(corpus: Path) -> None:
    path = Path("manifests/cuts_train.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ManifestFileError, match=r"cannot be read to its end .* delete it and run ./prepare.sh again"):
        tokenize_cuts(config())


def test_a_missing_manifest_names_the_stage_that_makes_it(corpus: Path) -> None:
    Path("manifests/cuts_dev.jsonl.gz").unlink()
    with pytest.raises(TokenizeError, match=r"expected cuts in manifests/cuts_dev.jsonl.gz, found none; run stage 1"):
        tokenize_cuts(config())
    with pytest.raises(TokenizeError, match=r"run stage 3 of prepare\.sh first"):
        finish()


def test_audio_that_has_changed_since_is_refused(corpus: Path) -> None:
    soundfile.write("wavs/train-2.wav", sound(0.6, rate=24000), 24000)
    with pytest.raises(UserError, match=r"train-2.*run stage 1 of prepare.sh again"):
        tokenize_cuts(config())


@pytest.mark.parametrize("options", [{"batch_seconds": 0.0}, {"shard_seconds": -1.0}, {"num_workers": 0}])
def test_sizes_must_be_above_zero(options: dict) -> None:
    with pytest.raises(TokenizeError, match="must be above 0"):
        config(**options)


@given(st.lists(st.floats(0.1, 40), max_size=60), st.floats(5, 60))
def test_batches_hold_every_cut_once_within_their_padded_size(durations: list[float], batch_seconds: float) -> None:
    batches = list(batches_of_like_lengths(durations, batch_seconds))
    assert sorted(index for batch in batches for index in batch) == list(range(len(durations)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(durations[index] for index in batch) <= batch_seconds


def test_units_are_fitted_on_the_corpus_and_repeat(corpus: Path) -> None:
    settings = {"acoustic": str(corpus / "tokenizers" / "acoustic"), "semantic": "fit", "num_units": 10, "manifest_dir": Path("manifests")}
    identities = [prepare_tokenizers(TokenizersConfig(**settings, output_dir=Path(name))) for name in ("one", "two")]
    assert identities[0] == identities[1] and identities[0][1].codebook_size == 10
    assert load_semantic("one/semantic").identity == identities[0][1]
    with pytest.raises(UserError, match="needs at least 2000 frames"):
        prepare_tokenizers(TokenizersConfig(**{**settings, "num_units": 200}))


def test_tokenizers_that_never_meet_are_refused_before_anything_is_written(corpus: Path) -> None:
    save_tiny_tokenizers(corpus / "odd", hop=322)
    with pytest.raises(GridMismatchError):
        prepare_tokenizers(
            TokenizersConfig(
                acoustic=str(corpus / "odd" / "acoustic"), semantic=str(corpus / "tokenizers" / "semantic"), output_dir=Path("new")
            )
        )
    assert not Path("new").exists()


def test_leaving_out_units_removes_those_of_before(corpus: Path) -> None:
    settings = {"acoustic": "tokenizers/acoustic", "output_dir": Path("new")}
    prepare_tokenizers(TokenizersConfig(**settings, semantic="tokenizers/semantic"))
    assert Path("new/semantic").is_dir()
    prepare_tokenizers(TokenizersConfig(**settings, semantic="none"))
    assert sorted(path.name for path in Path("new").glob("*/")) == ["acoustic"]


def test_manifests_are_plain_lines(corpus: Path) -> None:
    tokenize_cuts(config())
    finish()
    with gzip.open("tokenized/cuts_dev.jsonl.gz", "rt") as lines:
        first = json.loads(next(lines))
    assert first["custom"]["units"]["array"]["storage_path"] == "tokenized/shards/dev-00000.h5"
