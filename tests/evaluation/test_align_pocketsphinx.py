"""PocketSphinx's phone times against the exact ones of speech by eSpeak, in the file that the aligner writes."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lhotse.utils import fastcopy
from tiny_spoken_texts import write_spoken_texts

from valle.corpora.manifests import read_cuts, write_cuts
from valle.errors import UserError
from valle.evaluation.align_phones import AlignOptions, align_phones
from valle.evaluation.align_pocketsphinx import PocketSphinx
from valle.evaluation.unit_corpus import timed_phones


def test_words_begin_where_they_are_said_and_what_cannot_be_aligned_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    spoken = list(read_cuts(write_spoken_texts(tmp_path / "timed.jsonl.gz", num_cuts=7)))
    exact = [spoken[0], spoken[6], spoken[1]]  # it cannot follow every voice of eSpeak's
    texts = ["ANNA SAW A TALL MAN. A TALL MAN SAW ANNA", "Anna saw a tall man. A tall man saw Anna.", "Qzxqzx met a man."]
    cuts = [fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], text=text)]) for cut, text in zip(exact, texts, strict=True)]
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    info = align_phones(AlignOptions(manifests=[tmp_path / "cuts.jsonl.gz"], output_dir=tmp_path / "aligned", labels="pocketsphinx"))
    assert info["cuts"] == 2, info
    assert info["aligner"]["labels"] == "pocketsphinx"
    assert info["left_out"] == [{"id": exact[2].id, "reason": "PocketSphinx's dictionary lacks qzxqzx"}]
    assert json.loads((tmp_path / "aligned" / "info.json").read_text()) == info
    for cut, known in zip(read_cuts(tmp_path / "aligned" / "cuts.jsonl.gz"), exact, strict=False):
        words, wanted = (sorted(each.supervisions[0].alignment["word"], key=lambda item: item.start) for each in (cut, known))
        assert [word.symbol for word in words] == [word for item in wanted for word in item.symbol.lower().split()]
        phones = timed_phones(cut)
        assert {phone.symbol for phone in phones} <= {"AE", "AH", "AA", "AO", "N", "S", "T", "L", "M", "EH", "EY"}
        assert all(one.end <= other.begin + 1e-6 for one, other in pairwise(phones)) and {phone.confidence for phone in phones} == {1.0}
        begins = {item.symbol.lower().split()[0]: item.start for item in wanted}  # the last of each word
        found = {word.symbol: word.start for word in words}
        assert np.median([abs(found[name] - begin) for name, begin in begins.items()]) < 0.1


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(UserError, match="pip install pocketsphinx"):
        PocketSphinx()
