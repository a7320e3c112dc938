"""The engines' benchmark runs from end to end in tiny sizes, and its floor reads what a step reads."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import acoustic_speed, engines
from benchmarks.floor import Floor, bytes_of_step
from valle.models import AudioLM


def test_every_installed_engine_has_a_row_and_every_size_a_floor(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    output = tmp_path / "decoding.json"
    engines.main(["--fast", "--only", "steps", "--threads", "1", "--output", str(output)])
    results = json.loads(output.read_text())
    assert results["floor"].keys() == {"64x2"} and results["floor"]["64x2"] > 0
    assert [row["name"] for row in results["acoustic"]] == list(acoustic_speed.MODELS)
    found = {(row["engine"], row["dtype"], row["batch"]) for row in results["rows"]}
    ours = {("native", dtype) for dtype in ("float32", "bfloat16", "int8")} | {("torch", "float32"), ("torch", "bfloat16")}
    assert found >= {(*one, batch) for one in ours | {("llama", "float32")} for batch in (1, 8)}
    for row in results["rows"]:
        assert row["tokens_per_s"] > 0 and row["ms_at_150"] > 0 and row["ms_at_650"] > 0 and row["share_of_floor"] > 0


def test_a_package_that_is_not_installed_is_left_out_with_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "ctranslate2" else name)
    assert [engines._installed(one) for one in engines.CONTESTANTS].count(False) == 2
    assert "left out: ctranslate2 int8, as ctranslate2 is not installed" in capsys.readouterr().out


def test_a_step_reads_every_weight_of_its_products_once_and_the_cache() -> None:
    model = AudioLM(d_model=64, nhead=1, num_layers=2, num_quantizers=1, codebook_size=32).coarse
    products = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    weights = sum(part.weight.numel() for part in products)
    assert bytes_of_step(64, 2, vocabulary=32, batch=1, length=0, dtype="float32") == 4 * weights
    assert bytes_of_step(64, 2, vocabulary=32, batch=1, length=0, dtype="int8") == weights + 3 * model.head.weight.numel()
    numbers = 2 * sum(2 * cache.keys.numel() for cache in model.transformer.new_caches(1, 10))  # of the two rows more
    for dtype, size in (("float32", 4), ("bfloat16", 2), ("int8", 2)):
        cached = [bytes_of_step(64, 2, vocabulary=32, batch=batch, length=10, dtype=dtype) for batch in (1, 3)]
        assert cached[1] - cached[0] == numbers * size


def test_every_acoustic_model_has_a_time_and_its_passes() -> None:
    """Half a second: 25 steps over frames and 7 passes over levels; delay ends 7 steps later; soundstorm 16 passes and 7."""
    shape = {"d_model": 32, "nhead": 2, "num_layers": 1, "dim_feedforward": 32}
    rows = {row["name"]: row for row in acoustic_speed.rows(seconds=0.5, rounds=1, shape=shape)}
    assert rows.keys() == acoustic_speed.MODELS.keys() and all(row["rtf"] > 0 for row in rows.values())
    assert rows["ar-nar"]["passes"] == 25 + 7 and rows["soundstorm"]["passes"] == 16 + 7 and rows["delay"]["passes"] == 25 + 7


@pytest.mark.parametrize("threads", [1, 2])
def test_the_floor_is_the_fastest_of_its_readers(threads: int) -> None:
    floor = Floor(4096, threads)
    floor.measure(repeats=3)
    assert {len(seconds) for seconds in floor.seconds.values()} == {3} and {"torch", "numpy"} <= floor.seconds.keys()
    assert floor.pass_seconds == min(sorted(seconds)[1] for seconds in floor.seconds.values())
