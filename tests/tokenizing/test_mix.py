"""Several tokenized corpora as one."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from tiny_audio import write_librispeech
from tiny_corpus import make_tokenizers

from valle.corpora.librispeech import LibriSpeechConfig, prepare_librispeech
from valle.tokenizing.finish_cuts import FinishConfig, finish_cuts
from valle.tokenizing.mix import MixConfig, mix_tokens
from valle.tokenizing.token_manifests import ManifestError, read_manifests
from valle.tokenizing.tokenize_cuts import TokenizeConfig, tokenize_cuts

SIZES = {"one": 6, "two": 2}


def prepared(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch, *, units: bool = True) -> Path:
    """A recipe's folder as its prepare.sh leaves it, with paths relative to it; returns its manifest folder."""
    utterances = {f"train-a/1-1-{number:04d}": 0.5 for number in range(count)}
    write_librispeech(folder / "corpus", {**utterances, "dev-a/2-1-0000": 0.4, "dev-a/2-2-0000": 0.4})
    make_tokenizers(folder / "data/tokenizers", units=units)
    monkeypatch.chdir(folder)
    prepare_librispeech(LibriSpeechConfig(corpus_dir=Path("corpus"), train_parts=["train-a"], dev_parts=["dev-a"]))
    tokenize_cuts(TokenizeConfig(tokenizer_dir=Path("data/tokenizers"), num_workers=1))
    finish_cuts(FinishConfig())
    return folder / "data/tokenized"


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    return [prepared(tmp_path / name, count, monkeypatch) for name, count in SIZES.items()]


def test_a_mixture_holds_every_cut_as_often_as_asked_and_reads_its_tokens_from_anywhere(
    corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    counts = mix_tokens(MixConfig(manifest_dirs=corpora, repeats=[1, 3], output_dir=Path("mixed/data/tokenized")))
    mixed = read_manifests(Path("mixed/data/tokenized"))
    train = list(mixed.cuts("train"))
    assert Counter(cut.id.split("/")[0] for cut in train) == {"0-0": 6, "1-0": 2, "1-1": 2, "1-2": 2}
    assert len({cut.id for cut in train}) == len(train) == counts["train"].num_cuts == mixed.statistics["train"]["num_cuts"]
    assert len(list(mixed.cuts("dev"))) == 2 and (mixed.tokenizers_folder / "semantic").is_dir()
    for number, folder in enumerate(corpora):
        monkeypatch.chdir(folder.parent.parent)
        originals = {cut.id: cut.units.load() for cut in CutSet.from_jsonl_lazy(folder / "cuts_train.jsonl.gz")}
        monkeypatch.chdir(tmp_path)
        for cut in train:
            if cut.id.startswith(f"{number}-"):
                np.testing.assert_array_equal(cut.units.load(), originals[cut.id.split("/")[1]])


def test_any_stretch_of_a_mixture_holds_all_corpora(corpora: list[Path], tmp_path: Path) -> None:
    mix_tokens(MixConfig(manifest_dirs=corpora, repeats=[1, 3], output_dir=tmp_path / "mixed/data/tokenized"))
    order = [cut.id[0] for cut in read_manifests(tmp_path / "mixed/data/tokenized").cuts("train")]
    assert all(one != two for one, two in pairwise(order))


def test_tokens_of_other_tokenizers_are_refused(corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = prepared(tmp_path / "codes alone", 2, monkeypatch, units=False)
    with pytest.raises(ManifestError, match="expected tokens of one pair of tokenizers, found tiny-codec"):
        mix_tokens(MixConfig(manifest_dirs=[corpora[0], other], output_dir=tmp_path / "mixed/data/tokenized"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": [1]}, "a number for each of 2 corpora"),
        ({"repeats": [1, 0]}, "of 1 or more, found 0"),
        ({"output_dir": Path("a")}, "a folder of its own"),
    ],
)
def test_impossible_mixtures_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        MixConfig(manifest_dirs=[Path("a"), Path("b")], **options)
