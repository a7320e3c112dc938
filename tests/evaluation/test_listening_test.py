import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_report import RATE, write_report

from valle.audio import read_audio
from valle.errors import UserError
from valle.evaluation.listening_answers import binomial, caution, read_listening_test, result_table
from valle.evaluation.listening_test import ListeningTestOptions, make_listening_test

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_report(tmp_path / "one", model="one", prompts=6)


def answer(folder: Path, key: dict[str, Any], choose: Any, *, rater: str = "ann") -> Path:
    rows = [{"trial": trial, "answer": choose(number, value["truth"]), "seconds": 2.0}
            for number, (trial, value) in enumerate(key["trials"].items())]  # fmt: skip
    path = folder / f"answers-{rater}.json"
    path.write_text(json.dumps({"test": key["test"], "rater": rater, "answers": rows}))
    return path


def test_real_and_generated_are_balanced_equally_long_and_both_through_the_codec(report: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    key = make_listening_test(ListeningTestOptions(reports=[report], output_dir=folder, num_trials=4))
    truths = [value["truth"][0] for value in key["trials"].values()]
    assert sorted(truths) == ["generated", "generated", "real", "real"]
    page = (folder / "page/index.html").read_text()
    trials = json.loads(page.split("const test = ")[1].split(";\n")[0])["trials"]
    for trial in trials:
        wav, rate = read_audio(folder / "page" / trial["clips"][0])
        assert rate == RATE and len(wav) == 3 * RATE  # the continuation lasts 3 s and the recording 4: none is told by its length
        known = key["trials"][trial["id"]]
        level = 0.2 if known["truth"] == ["real"] else 0.4  # of the codec's sound, and of what was generated
        assert np.allclose(wav[: round(0.9 * RATE)], 0.2, atol=1e-3)  # the prompt went through the codec in both
        assert np.allclose(wav[RATE : round(2.9 * RATE)], level, atol=1e-3) and abs(wav[-1]) < 1e-3


def test_the_page_does_not_tell_what_is_real(report: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    key = make_listening_test(ListeningTestOptions(reports=[report], output_dir=folder, num_trials=4))
    trials = (folder / "page/index.html").read_text().split("const test = ")[1].split("\n")[0]
    assert "truth" not in trials and not any(value["prompt"] in trials for value in key["trials"].values())
    assert not list((folder / "page").rglob("key*"))


def test_answers_are_scored_by_rater_and_by_truth_with_the_binomial_test(report: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    key = make_listening_test(ListeningTestOptions(reports=[report], output_dir=folder, num_trials=4))
    files = [answer(tmp_path, key, lambda number, truth: truth[0]), answer(tmp_path, key, lambda number, truth: "real", rater="bob")]
    result = read_listening_test(ListeningTestOptions(answers=files, output_dir=folder))
    assert result["by_rater"]["ann"]["hits"] == 4 and result["by_rater"]["bob"]["hits"] == 2
    assert result["by_truth"]["real"]["mean"] == 1 and result["by_truth"]["generated"]["mean"] == 0.5
    assert result["by_rater"]["ann"]["p"] == pytest.approx(2 / 16) and binomial([True] * 9 + [False])["p"] == pytest.approx(22 / 1024)
    assert result == json.loads((folder / "result.json").read_text())
    assert result_table(result).rows[0][:2] == ("all ratings", "75.0 %") and "780" in caution(result)


def test_two_models_are_heard_in_either_order_and_preference_names_the_model(report: Path, tmp_path: Path) -> None:
    other = write_report(tmp_path / "two", model="two", prompts=6)
    folder = tmp_path / "test"
    key = make_listening_test(ListeningTestOptions(reports=[report, other], output_dir=folder))
    orders = {tuple(value["truth"]) for value in key["trials"].values()}
    assert orders == {("one", "two"), ("two", "one")}
    likes_two = answer(tmp_path, key, lambda number, truth: ["first", "second"][truth.index("two")])
    result = read_listening_test(ListeningTestOptions(answers=[likes_two], output_dir=folder))
    assert result["all"]["mean"] == 1 and "prefer two to one" in result["measure"]


def test_answers_of_another_test_or_twice_are_refused_in_one_line(report: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    key = make_listening_test(ListeningTestOptions(reports=[report], output_dir=folder, num_trials=4))
    mine = answer(tmp_path, key, lambda number, truth: "real")
    foreign = answer(tmp_path, {**key, "test": "other"}, lambda number, truth: "real", rater="eve")
    for files, said in (([foreign], "those of other"), ([mine, mine], "a second one of ann"), ([folder / "key.json"], "another file")):
        with pytest.raises(UserError, match=said):
            read_listening_test(ListeningTestOptions(answers=files, output_dir=folder))
    with pytest.raises(UserError, match="one or two reports"):
        ListeningTestOptions(output_dir=folder)


RATE_BY_KEYS = """
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const heard = () => players.forEach(player => player.audio.dispatchEvent(new Event("ended")));
const log = text => {
  const line = document.createElement("pre");
  line.className = "log"; line.textContent = text; document.body.append(line);
};
HTMLAnchorElement.prototype.click = function () {
  fetch(this.href).then(got => got.text()).then(text => log("file " + this.download + " " + text));
};
"""
FIRST = """
$("rater").value = "Ann B"; $("start").click();
log("order " + order.map(trial => trial.id).join(" "));
press("1"); log("unheard " + place);
heard(); press("1"); heard(); press("2"); log("answered " + place);
press("ArrowLeft"); log("back " + place + " " + document.querySelector("[aria-pressed=true]").dataset.answer);
location.hash = "again";
localStorage.getItem(store) || log("nothing kept");
// What a new visit does: forget everything that is in memory, and load.
state = { rater: "", raters: {} }; order = []; place = 0; load(); $("rater").value = state.rater; start();
log("resumed " + place + " " + state.rater);
while (!$("trial").hidden) { heard(); press("2"); }
log("end " + $("end").hidden); $("download").click();
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_rater_answers_by_keyboard_goes_on_later_and_downloads_the_answers(report: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    key = make_listening_test(ListeningTestOptions(reports=[report], output_dir=folder, num_trials=4))
    page = folder / "page" / "index.html"
    driven = page.read_text().replace("default-src 'none';", "default-src 'none'; connect-src blob:;")
    (folder / "page" / "driven.html").write_text(driven.replace("</body>", f"<script>{RATE_BY_KEYS}{FIRST}</script></body>"))
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
               "--virtual-time-budget=4000", "--dump-dom", f"file://{folder / 'page' / 'driven.html'}"]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    lines = [part.split("</pre>")[0] for part in shown.split('<pre class="log">')[1:]]
    assert sorted(lines[0].split()[1:]) == sorted(key["trials"]) and lines[0].split()[1:] != sorted(key["trials"])
    assert lines[1:6] == ["unheard 0", "answered 2", "back 1 generated", "resumed 2 Ann B", "end false"]
    name, text = lines[6].removeprefix("file ").split(" ", 1)
    assert name == "answers-Ann-B.json"
    answers = json.loads(text)
    assert [row["answer"] for row in answers["answers"]] == ["real", "generated", "generated", "generated"]
    (tmp_path / name).write_text(text)
    assert read_listening_test(ListeningTestOptions(answers=[tmp_path / name], output_dir=folder))["all"]["count"] == 4
