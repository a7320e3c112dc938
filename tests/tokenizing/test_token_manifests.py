"""What prepare.sh left in data/tokenized, whole or damaged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_corpus import Corpus, write_corpus

from valle.tokenizing.token_manifests import ManifestError, read_manifests

SMALL = Corpus(num_train=4, num_dev=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_corpus(tmp_path, SMALL)


def refusal(folder: Path, part: str | None = None) -> str:
    """The one sentence that refuses ``info.json``, or else the cuts of a part."""
    with pytest.raises(ManifestError) as refused:
        manifests = read_manifests(folder)
        assert part is not None
        list(manifests.cuts(part))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def lines_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode()))


def test_manifests_say_what_made_the_tokens(folder: Path) -> None:
    manifests = read_manifests(folder)
    assert (manifests.acoustic.name, manifests.semantic.name) == ("tiny-codec", "tiny-units")
    assert manifests.tag == f"{manifests.acoustic.sha256[:12]}/{manifests.semantic.sha256[:12]}"
    assert [cut.id for cut in manifests.cuts("dev")] == ["dev-000", "dev-001"]
    assert {cut.custom["tokenizers"] for cut in manifests.cuts("train")} == {manifests.tag}


def test_a_folder_without_info_names_what_to_run(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == (
        f"expected tokenized cuts in {tmp_path / 'nowhere'}, found no info.json there; "
        "run ./prepare.sh, or point --manifest-dir at its data/tokenized"
    )


NO_DESCRIPTION = [
    *("", "{", "[]", "null", "7", "{}", "\x00\x01", '"text"'),
    *('{"tokenizers": null, "timeline": {}}', '{"tokenizers": {}}', '{"tokenizers": [1], "timeline": 2}'),
]


@pytest.mark.parametrize("text", NO_DESCRIPTION)
def test_a_damaged_description_is_refused(folder: Path, text: str) -> None:
    (folder / "info.json").write_text(text)
    said = refusal(folder)
    assert said.startswith(f"{folder / 'info.json'} is damaged") and said.endswith("delete it and run ./prepare.sh --stage 4")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("timeline", "codes"), None), (("timeline", "codes"), ["16000", "320"]), (("timeline", "units"), [16000]),
        (("tokenizers", "acoustic"), {"name": "x"}), (("tokenizers", "acoustic"), None), (("tokenizers", "semantic"), "mfcc"),
    ],
)  # fmt: skip
def test_a_description_with_wrong_values_is_refused(folder: Path, place: tuple[str, str], value: object) -> None:
    info = json.loads((folder / "info.json").read_text())
    info[place[0]][place[1]] = value
    (folder / "info.json").write_text(json.dumps(info))
    assert "info.json is damaged" in refusal(folder)


@pytest.mark.parametrize("damage", ["cut short", "not gzip", "empty file", "not JSON", "no cut", "another value within"])
def test_a_damaged_manifest_is_refused_before_anything_is_read(folder: Path, damage: str) -> None:
    path = folder / "cuts_train.jsonl.gz"
    content = path.read_bytes()
    if damage == "not JSON":
        write_lines(path, ["what is this"])
    elif damage == "no cut":
        write_lines(path, ['{"name": "not a cut"}'])
    else:
        within = bytearray(content)
        within[len(content) // 2] ^= 0xFF
        changed = {"cut short": content[:-9], "not gzip": b"id,path\n", "empty file": b"", "another value within": bytes(within)}
        path.write_bytes(changed[damage])
    said = refusal(folder, "train")
    assert said.startswith(f"{path} is damaged (") and said.endswith("; delete it and run ./prepare.sh --stage 4")


def test_a_missing_part_names_the_stage_that_makes_it(folder: Path) -> None:
    (folder / "cuts_dev.jsonl.gz").unlink()
    assert (
        refusal(folder, "dev") == f"expected a manifest at {folder / 'cuts_dev.jsonl.gz'}, found nothing there; run ./prepare.sh --stage 4"
    )


def test_an_empty_part_is_no_damage(folder: Path) -> None:
    write_lines(folder / "cuts_test.jsonl.gz", [])
    assert list(read_manifests(folder).cuts("test")) == []


@pytest.mark.parametrize("part", ["dev", "test"])
@pytest.mark.parametrize("name", ["plain", 'with "quotes" and \\', "Straße/☃"])
def test_dev_and_test_inside_train_are_refused(folder: Path, part: str, name: str) -> None:
    read_manifests(folder).refuse_overlap()
    cut = {**lines_of(folder / "cuts_train.jsonl.gz")[0], "id": name}
    for other in ("train", part):
        path = folder / f"cuts_{other}.jsonl.gz"
        write_lines(path, [json.dumps(line, ensure_ascii=other == "train") for line in [*lines_of(path), cut]])
    with pytest.raises(ManifestError) as refused:
        read_manifests(folder).refuse_overlap()
    assert str(refused.value).startswith(f"expected {part} cuts that training never sees, found {name} in")


def test_ids_that_begin_alike_are_no_overlap(folder: Path) -> None:
    for part, name in (("train", 'a "b" c'), ("dev", 'a "b" d')):
        path = folder / f"cuts_{part}.jsonl.gz"
        cuts = lines_of(path)
        write_lines(path, [json.dumps({**cuts[0], "id": name}), *map(json.dumps, cuts[1:])])
    manifests = read_manifests(folder)
    manifests.refuse_overlap()
    assert [next(iter(manifests.cuts(part))).id for part in ("train", "dev")] == ['a "b" c', 'a "b" d']


def test_an_overlap_is_found_whatever_the_order_of_keys(folder: Path) -> None:
    cuts = lines_of(folder / "cuts_train.jsonl.gz")
    write_lines(folder / "cuts_dev.jsonl.gz", [json.dumps(dict(reversed(cuts[1].items())))])
    with pytest.raises(ManifestError, match="found train-001"):
        read_manifests(folder).refuse_overlap()
