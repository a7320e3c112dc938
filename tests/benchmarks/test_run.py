"""The benchmarks run from end to end in tiny sizes, and what they write has the keys that documents read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_corpus import write_corpus

from benchmarks import ablation, codec_steps, encode_share, run, tokenizers, unit_sequences
from benchmarks.common import ROOT, figure, goals_of, run_child, write_results

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def basics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("results")
    run.main(["--fast", "--only", "basics", "--output-dir", str(folder)])
    results: dict[str, Any] = json.loads((folder / "basics.json").read_text())
    return results


def test_a_run_says_how_where_and_when(basics: dict[str, Any]) -> None:
    assert basics["command"] == "python -m benchmarks.run --fast"
    assert {"processor", "cores", "memory_gib"} <= basics["machine"].keys()
    assert basics["versions"]["torch"] == __import__("torch").__version__
    assert basics["date"].startswith("20") and basics["wall_seconds"] > 0


def test_every_goal_stands_beside_its_figure(basics: dict[str, Any]) -> None:
    goals = {goal["figure"]: goal["goal"] for goal in basics["goals"]}
    shapes = [f"decoding.64x2, batch {batch}" for batch in (1, 2)]
    assert goals == {
        "stage_3.times_real_time": "at least 150",
        "codec.encode_times_real_time": "at least 50",
        "codec.decode_times_real_time": "at least 50",
        "training.step.bare_over_ours": "at least 0.9",
        "training.padding.percent": "at most 8",
        **{f"{shape}.ours_over_llama": "at least 1" for shape in shapes},
        **{f"{shape}.end_over_beginning": "at least 0.8" for shape in shapes},
        **{f"{shape}.flat_but_for_reading": "at most 1.15" for shape in shapes},
    }
    assert goals_of(basics) == basics["goals"]


def test_every_figure_has_its_spread(basics: dict[str, Any]) -> None:
    figures = list(figures_in(basics))
    assert len(figures) > 15
    for found in figures:
        assert found["spread"][0] <= found["value"] <= found["spread"][1]
        assert found["repeats"] >= 1


def figures_in(values: Any) -> Any:
    if isinstance(values, dict):
        if "spread" in values:
            yield values
        else:
            for value in values.values():
                yield from figures_in(value)


def test_infer_is_timed_alone_and_in_a_batch(basics: dict[str, Any]) -> None:
    assert [basics["infer"][name]["rtf"]["value"] > 0 for name in ("batch 1", "batch 8")] == [True, True]


@pytest.mark.parametrize(
    ("limits", "goal", "met"),
    [({"at_least": 2.0}, "at least 2", True), ({"at_least": 2.5}, "at least 2.5", False), ({"at_most": 1.5}, "at most 1.5", False)],
)
def test_a_goal_is_met_by_the_median(limits: dict[str, float], goal: str, met: bool) -> None:
    found = figure([1.0, 9.0, 2.0], **limits)
    assert (found["value"], found["spread"], found["goal"], found["met"]) == (2.0, [1.0, 9.0], goal, met)


def test_results_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    write_results(path, {"speed": figure([1.0], at_least=2.0)})
    before = path.read_text()
    with pytest.raises(TypeError):
        write_results(path, {"speed": object()})
    assert path.read_text() == before and json.loads(before)["goals"] == [
        {"figure": "speed", "value": 1.0, "goal": "at least 2", "met": False}
    ]


def test_the_peak_of_a_child_is_what_it_held() -> None:
    # In a process of its own, as benchmarks.memory is one: a child also counts what its parent held when it was started.
    program = f"""
import sys
from pathlib import Path
from benchmarks.common import run_child
for size in (100, 200):
    print(run_child([sys.executable, "-c", f"held = b'x' * ({{size}} * {MEGABYTE})"], cwd=Path.cwd()).peak_bytes)
"""
    printed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    small, large = map(int, printed.split())
    assert 95 * MEGABYTE < large - small < 105 * MEGABYTE


def test_a_child_that_fails_is_named_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\nnot today"):
        run_child([sys.executable, "-c", "print('not today'); raise SystemExit(3)"], cwd=tmp_path)


def test_an_ablation_run_leaves_scores_and_speed(tmp_path: Path) -> None:
    manifests = write_corpus(tmp_path / "data")
    tiny = "--decoder-dim 16 --nhead 2 --num-decoder-layers 1 --num-quantizers 3 --dim-feedforward 32 --max-duration 20 --log-interval 1"
    options = [
        *tiny.split(),
        "--filter-min-duration",
        "1",
        "--dtype",
        "float32",
        "--tensorboard",
        "false",
        "--max-steps",
        "2",
        "--num-workers",
        "0",
    ]
    row = ablation.train(ablation.VARIANTS[3], manifests, tmp_path / "exp", minutes=1, more=options)
    assert row["steps"] == 2 and row["tokens_per_s"] > 0 and len(row["valid_nll_per_level"]) == 2
    assert row["valid_nll"] == pytest.approx(sum(row["valid_nll_per_level"]) / 2, abs=1e-3)
    assert "| fine | without units |" in ablation.table({"fine": {"without units": row}})


def test_unit_sequences_are_compared_by_tokens_and_bits_on_the_same_cuts(tmp_path: Path) -> None:
    manifests = write_corpus(tmp_path / "data")
    tiny = {"decoder_dim": 16, "nhead": 2, "num_decoder_layers": 1, "num_quantizers": 3, "dim_feedforward": 32, "max_duration": 20.0}
    rows = {
        name: unit_sequences.train(name, manifests, tmp_path, minutes=1, vocab_size=20, max_steps=2, filter_min_duration=1.0, **tiny)
        for name in unit_sequences.SEQUENCES
    }
    assert all(row["steps"] == 2 and row["cpu_seconds"] > 0 and row["bits_per_second"] > 20 for row in rows.values())
    assert rows["frames"]["tokens_per_second"] == rows["runs"]["tokens_per_second"] > 25  # it counts up: no unit twice, and an end
    assert rows["bpe"]["tokens_per_second"] < 20
    parts = rows["runs"]["unit_bits_per_second"] + rows["runs"]["duration_bits_per_second"]
    assert parts == pytest.approx(rows["runs"]["bits_per_second"], abs=0.01)


def test_the_comparisons_clock_is_that_of_the_processor(tmp_path: Path) -> None:
    manifests = write_corpus(tmp_path / "data")
    tiny = {"decoder_dim": 16, "nhead": 2, "num_decoder_layers": 1, "num_quantizers": 3, "dim_feedforward": 32, "max_duration": 20.0}
    row = unit_sequences.train("frames", manifests, tmp_path, minutes=0.5 / 60, vocab_size=20, filter_min_duration=1.0, **tiny)
    assert row["steps"] > 2 and row["epochs"] >= 1


def test_a_codecs_steps_are_timed_in_both_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"dim": 8, "num_blocks": 1, "num_quantizers": 2, "codebook_size": 8, "batch_size": 2, "segment_seconds": 0.5}
    monkeypatch.setattr(codec_steps, "VARIANTS", {"tiny": {**tiny, "adversarial": "msstft", "adversarial_channels": 2}})
    codec_steps.main(["--output", str(tmp_path / "steps.json"), "--repeats", "2"])
    seconds = json.loads((tmp_path / "steps.json").read_text())["seconds"]["tiny"]
    assert seconds.keys() == {"float32", "bfloat16"}
    assert all(found["repeats"] == 2 and 0 < found["spread"][0] <= found["value"] for found in seconds.values())


def test_tokenising_is_timed_beside_encoding_alone() -> None:
    found = encode_share.bench_encode_share(num_cuts=3, repeats=1, rate=24000, num_workers=1)
    assert found["share"]["goal"] == "at least 0.9" and found["share"]["value"] > 0 and found["of_cpu_seconds"]["value"] > 0
    assert found["batches"] == 1 and 9 < found["audio_seconds"] < 36


def test_the_table_of_tokenizers_has_every_row_and_its_controls(tmp_path: Path) -> None:
    output = tmp_path / "tokenizers.json"
    tokenizers.main(["--fast", "--max-recordings", "2", "--output", str(output)])
    results = json.loads(output.read_text())
    codecs = {(row["name"], row["n_codebooks"]): row for row in results["codecs"]}
    assert [count for name, count in codecs if name == "valle-convnext"] == [1, 2, 4, 8]
    assert codecs["valle-convnext", 8]["kbps"] == 3.2 and codecs["valle-convnext", 8]["rtf_encode"] > 0
    stoi = [row["stoi_synthetic"] for row in results["codecs"] if row["name"] == "valle-convnext"]
    assert stoi == sorted(stoi) and codecs["identity", None]["stoi_synthetic"] == pytest.approx(1, abs=1e-3)
    (units,) = results["units"]
    assert units["pnmi"] > units["controls"]["pnmi_permuted"]
    assert units["bits_per_second"].keys() == {"unigram", "bigram", "small_lm"}
    assert 0 < results["encode_share_of_forward"] == results["encode_share"]["share"]["value"]
    assert results["runs"]["codecs"] == results["runs"]["units"]


def test_a_part_that_a_run_leaves_out_stays_in_the_table(tmp_path: Path) -> None:
    output = tmp_path / "tokenizers.json"
    before = {"codecs": [{"name": "a codec"}], "units": ["old"], "runs": {"codecs": {"command": "before"}, "units": {"command": "before"}}}
    output.write_text(json.dumps(before))
    tokenizers.main(["--fast", "--codecs", "--units", "mfcc-kmeans", "--output", str(output)])
    results = json.loads(output.read_text())
    assert results["codecs"] == before["codecs"] and [row["name"] for row in results["units"]] == ["mfcc-kmeans"]
    assert results["runs"]["codecs"]["command"] == "before" and "mfcc-kmeans" in results["runs"]["units"]["command"]
