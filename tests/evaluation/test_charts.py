import json
from pathlib import Path

import pytest
from kept_report import write_report

from valle.evaluation.chart_drawing import draw_chart, ticks
from valle.evaluation.charts import Chart, Series
from valle.evaluation.figure_titles import group_of, title_of
from valle.evaluation.kept_suites import read_suite
from valle.evaluation.report_page import write_report_page
from valle.evaluation.report_players import MOST_PLAYERS, player_cards
from valle.evaluation.scalars import write_scalars

NAN = float("nan")
LINE = Chart(title="Level", meaning="It stays.", x_label="second", y_label="dB", x=[1, 2, 3, 4],
             series=[Series("this model", [0, 1, NAN, 2], [0, 0, NAN, 1], [1, 2, NAN, 3], is_model=True),
                     Series("real speech", [0, 0, 0, 0])])  # fmt: skip
STEPS = Chart(title="Units", meaning="How often.", x_label="unit", y_label="%", x=[0, 1, 2], kind="steps", from_zero=True,
              series=[Series("this model", [10, 90], is_model=True)])  # fmt: skip


def test_axes_are_marked_with_round_numbers() -> None:
    assert [text for _, text in ticks(0, 7)] == ["0", "2", "4", "6"]
    assert [text for _, text in ticks(-0.031, 0.052)] == ["-0.02", "0.00", "0.02", "0.04"]
    assert [value for value, _ in ticks(0, 1000)] == [0, 200, 400, 600, 800, 1000]


def test_a_gap_divides_a_line_and_its_band() -> None:
    model, real = draw_chart(LINE).series
    assert model.line.count("M") == 2 and model.band.count("Z") == 2 and model.dots.count("M") == 3 and model.style == "new"
    assert real.line.count("M") == 1 and not real.band and real.style == "real"


def test_higher_values_stand_higher_and_steps_begin_at_zero() -> None:
    drawn = draw_chart(STEPS)
    points = [tuple(map(float, pair.split())) for pair in drawn.series[0].line[1:].split("L")]
    assert [x for x, _ in points] == [0, 500, 500, 1000] and points[0][1] > points[2][1]
    assert drawn.y_ticks[0].text == "0" and drawn.y_ticks[0].place == pytest.approx(100)


def test_charts_are_read_as_they_were_written() -> None:
    again = Chart.from_dict(json.loads(json.dumps(LINE.to_dict())))
    assert draw_chart(again).series == draw_chart(LINE).series and (again.title, again.x) == (LINE.title, LINE.x)
    with pytest.raises(ValueError, match="expected 2 values"):
        Chart(**{**vars(STEPS), "series": [Series("x", [1.0])]})


def test_figures_have_titles_and_groups() -> None:
    assert title_of("wer_acoustic") == "Word error rate: true units spoken" and title_of("nll_fine_1") == "Nats a token: fine, level 1"
    assert title_of("words_in_lexicon_continuation") == "Words in the lexicon: continuations"
    assert title_of("syn_blimp_number") == "Agreement of words: number"
    assert title_of("watermark_tpr_noise_20db") == "Watermark found in one second: white noise, 20 dB"
    assert title_of("a_new_one") == "a new one" and group_of("a_new_one") == ""
    assert group_of("wer_acoustic") == group_of("distinct_words_babble") and group_of("voice_kept") == "Voice and sound"


def test_the_page_plays_a_dozen_sounds_and_names_the_rest(tmp_path: Path) -> None:
    folder = write_report(tmp_path / "report", model="one", prompts=6)
    result, _, _ = read_suite(folder / "suites" / "continuation.json")
    result.charts += [LINE, STEPS]
    write_report_page(folder / "report.html", {"continuation": result}, model="m")
    page = (folder / "report.html").read_text()
    assert page.count("<audio") == page.count("data:audio/flac;base64,") == MOST_PLAYERS and page.count("data:image/png;base64,") == 12
    assert page.count('href="sounds/') == 6 and "2 more prompts" in page and page.count("<svg") == 2
    assert len(page) < 10_000_000 and "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")


def test_sounds_that_would_make_the_page_too_large_stay_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_report(tmp_path / "report", model="one", prompts=4)
    result, _, _ = read_suite(folder / "suites" / "continuation.json")
    one = sum(len(player.audio) + len(player.picture) for player in player_cards(folder, result.sounds)[0].players)
    monkeypatch.setattr("valle.evaluation.report_players.MOST_BYTES", 2 * one + one // 2)
    assert len(player_cards(folder, result.sounds)) == 2


def test_tensorboard_holds_every_figure_with_its_interval(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = write_report(tmp_path / "report", model="one", values=[1.0, 2.0, 4.0])
    result, _, _ = read_suite(folder / "suites" / "continuation.json")
    write_scalars(tmp_path / "board", {"continuation": result}, step=7)
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    [value] = events.Scalars("continuation/codec_stoi")
    assert (value.step, value.value) == (7, pytest.approx(7 / 3))
    assert {"continuation/nll_semantic_low", "continuation/nll_semantic_high"} <= set(events.Tags()["scalars"])
