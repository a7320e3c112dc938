"""Puts figures into the documents: every table between ``<!-- figures: NAME -->`` and ``<!-- end -->`` is written here.

python3 -m benchmarks.figures            write them again
python3 -m benchmarks.figures --check    status 1 where a document does not say what benchmarks/results says

A block whose results are not there keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.acoustic_table import acoustic_costs, acoustic_models, multi_token, piano_models, soundstorm_passes, storage
from benchmarks.engine_table import engines
from benchmarks.front_page import goals, works
from benchmarks.live_tables import live, live_blocks, live_soak
from benchmarks.mark_tables import detector, watermark
from benchmarks.quality_table import quality
from benchmarks.row_names import figures_of
from benchmarks.sound_part_tables import sound_codec, sound_speakers, sound_units, stage_losses
from benchmarks.sound_table import voices as sound_voices
from benchmarks.sound_table import words as sound_words
from benchmarks.speech_tables import alignment, levels, synthesisers, unit_sequences, voices_kept, window_context
from benchmarks.tables import Results, interval, markdown, page_table, run_note, text, where, written_from
from benchmarks.text_speech_tables import conversation, one_body, text_speech
from benchmarks.tokenizer_tables import across_speakers, codecs, command, curves, limits, reports, unit_choice, units
from valle.evaluation.demo_summary import demo_tables
from valle.evaluation.evaluate_codec import codec_table
from valle.tokenizers.registry import BUNDLED_ACOUSTIC
from valle.training.summary import stage_rows as summary_rows

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- figures: (?P<name>[a-z-]+) -->\n(?P<content>.*?)<!-- end -->", re.DOTALL)
DOCUMENTS = ("README.md", "docs/**/*.md", "egs/*/README.md", "valle/assets/**/README.md")
BEFORE = "tokenizers_before"  # trainings on a faster machine, whose weights are gone
BUNDLED_CODECS = ("valle-16khz", BUNDLED_ACOUSTIC)
TABLED_UNITS = ("mfcc-kmeans", "mfcc50", "hubert-25hz", "valle-hubert")
OBJECTIVES = ("mfcc50", "hubert-1", "wav2vec-1", "vq-wav2vec-1", "wav2vec2-1", "w2v-bert-1")
ITERATIONS = ("mfcc50-200", "hubert-1-published", "hubert-2-published", "hubert-1", "hubert-2", "hubert-3")
IN_TOKENIZERS = "the command in docs/tokenizers.md"
IN_CODECS = "the command in docs/codec-training.md"
CURVES = "Loss in nats per token over training steps, on train and dev, one panel per stage"
RUNS = "Loss over training steps, on train and dev, one panel per run"
STAGE_COLUMNS = ("stage", "train", "dev", "unigram", "below unigram", "accuracy")


def documents(root: Path = ROOT) -> list[Path]:
    """Every document that may hold figures."""
    return sorted({path for pattern in DOCUMENTS for path in root.glob(pattern)})


def read_results(root: Path = ROOT) -> dict[str, Any]:
    """Whatever was measured, by file name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / "benchmarks" / "results").glob("*.json"))}


def fill(path: Path, results: Results, root: Path = ROOT) -> str:
    """The text of a document with every block that has results written again."""

    def content(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in BLOCKS and name not in PICTURES:
            raise ValueError(f"{path}: expected one of {', '.join([*BLOCKS, *PICTURES])}, found {name!r}")
        new = picture(name, path, root) if name in PICTURES else BLOCKS[name](results)
        return f"<!-- figures: {name} -->\n{match['content'] if new is None else new}<!-- end -->"

    return BLOCK.sub(content, path.read_text(encoding="utf-8"))


def picture(name: str, document: Path, root: Path) -> str | None:
    """A picture that a run has left, as seen from the document."""
    place, caption = PICTURES[name]
    if not (root / place).is_file():
        return None
    up = len(document.relative_to(root).parents) - 1
    own_folder = f"{document.relative_to(root).parent.as_posix()}/"
    link = place.removeprefix(own_folder) if place.startswith(own_folder) else "../" * up + place
    return f"![{caption}]({link})\n"


def demo_block(title: str) -> Callable[[Results], str | None]:
    """One table of the demo's report."""

    def block(results: Results) -> str | None:
        if "demo" not in results:
            return None
        return next((page_table(table) for table in demo_tables(results["demo"]) if table.title == title), None)

    return block


def demo_compared(results: Results) -> str | None:
    """The demo as it is, and as it was: on two machines, and with the units of the bundled model."""
    runs = {
        "today": "demo", "former schedule": "demo_former", "former schedule, bfloat16": "demo_former_bfloat16",
        "former schedule, bundled units": "demo_former_bundled_units",
    }  # fmt: skip
    if not results.keys() >= set(runs.values()):
        return None
    columns = [_compared(results[name]) for name in runs.values()]
    return markdown(("", *runs), [(words, *(column[words] for column in columns)) for words in columns[0]])


def _compared(demo: Mapping[str, Any]) -> dict[str, str]:
    voices, codec, fine = demo["voices"], demo["codec"], demo["fine"]
    silence = [100 * voices["silence_share"][which]["mean"] for which in ("generated", "real")]
    below = [unigram - nll for unigram, nll in zip(fine["unigram_nll_per_codebook"], fine["nll_per_codebook"], strict=True)]
    return {
        "voice kept": interval(voices["generated"]),
        "real speech through the codec": interval(voices["round_trip"]),
        "silence in continuations (in real speech)": f"{silence[0]:.0f} % ({silence[1]:.0f} %)",
        "codec on real speech: STOI, mel distance": f"{codec['stoi_real_test']:.3f}, {codec['mel_l1']:.2f}",
        "codec on synthetic speech: STOI, mel distance": f"{codec['stoi_synthetic_test']:.3f}, {codec['mel_l1_synthetic_test']:.2f}",
        "semantic stage: dev loss, nats below the unigram": _below(demo["semantic"]),
        "coarse stage: dev loss, nats below the unigram": _below(demo["coarse"]),
        "fine stage, mean over levels: nats below the unigram": f"{sum(below) / len(below):.2f}",
        "training speech, steps": f"{demo['hours_train']:.1f} h, {demo['steps']}",
        "wall time of the demo": f"{demo['wall_seconds'] / 60:.1f} min",
        "work per second of new audio": f"{demo['rtf_infer']:.2f} s",
    }


def _below(stage: Mapping[str, float]) -> str:
    return f"{stage['valid_nll']:.2f}, {stage['unigram_nll'] - stage['valid_nll']:.2f}"


def codec(source: str) -> Callable[[Results], str | None]:
    """What ``bin/evaluate_codec.py`` wrote of one codec, a table a title."""

    def block(results: Results) -> str | None:
        if source not in results:
            return None
        return "\n".join(page_table(codec_table(title, report), titled=True) for title, report in results[source].items())

    return block


def recipe(name: str) -> Callable[[Results], str | None]:
    """Hours, nats a token and speed of a recipe's run."""

    def block(results: Results) -> str | None:
        if name not in results:
            return None
        values = results[name]
        note = run_note(values)
        if "infer" in values:
            note += f" Work per second of new audio: {values['infer']['rtf']:.2f} s."
        return markdown(STAGE_COLUMNS, stage_rows(values["training"]), note)

    return block


def stage_rows(training: Mapping[str, Any]) -> list[Sequence[str]]:
    """One row a stage, and one a level of the fine stage, in nats a token."""
    return [
        (
            name, f"{row['train_nll']:.2f}", f"{row['valid_nll']:.2f}", f"{row['unigram_nll']:.2f}",
            f"{row['unigram_nll'] - row['valid_nll']:.2f}", f"{100 * row['accuracy']:.0f} %",
        )
        for name, row in summary_rows(training)
    ]  # fmt: skip


def folder_block(results: Results) -> str | None:
    """The same dev recordings under the bundled model and under the tuned one."""
    if "folder" not in results:
        return None
    values = results["folder"]
    before, after = (stage_rows(values[when]) for when in ("before", "after"))
    rows = [(old[0], old[2], new[2], old[3]) for old, new in zip(before, after, strict=True)]
    hours = ", ".join(f"{part} {60 * amount:.1f} min" for part, amount in values["hours"].items())
    return markdown(("stage", "before", "after", "unigram"), rows, f"{hours}; {values['training']['seconds'] / 60:.0f} minutes of tuning.")


def measured(values: Mapping[str, Any]) -> str:
    """Every figure of a benchmark with its spread and its goal, and on which machine."""
    rows = [
        (words, text(found["value"]), " to ".join(dict.fromkeys(map(text, found["spread"]))), found.get("goal", ""))
        for words, found in figures_of(values)
    ]
    return markdown(("figure", "median", "least to most", "goal"), rows, where(values))


def ablation(results: Results) -> str | None:
    """Every run a row; of the fine stage the mean over its levels."""
    if "ablation" not in results:
        return None
    values = results["ablation"]
    rows = [
        (
            stage, name, *(f"{row[key]:.2f}" for key in ("train_nll", "valid_nll", "unigram_nll")),
            str(row["steps"]), text(float(row["tokens_per_s"])),
        )
        for stage in ("coarse", "fine")
        for name, row in values[stage].items()
    ]  # fmt: skip
    note = f"{values['minutes_each']:g} minutes each; losses in nats per token. {where(values)}"
    return markdown(("stage", "", "train", "dev", "unigram", "steps", "tokens/s"), rows, note)


def codec_steps(results: Results) -> str | None:
    """What a step of training a codec costs, by adversary."""
    if "codec_steps" not in results:
        return None
    values = results["codec_steps"]
    rows = [
        (name, *(f"{found[dtype]['value']:.2f} ({' to '.join(f'{end:.2f}' for end in found[dtype]['spread'])})" for dtype in found))
        for name, found in values["seconds"].items()
    ]
    return markdown(("seconds per step", "float32", "bfloat16"), rows, where(values))


def scale(values: Mapping[str, Any]) -> str:
    """Every size of corpus and number of ranks a row; of two ranks that were measured the slower and the larger one."""
    rows = [
        (
            f"{spaced(corpus['hours'])} h, {row['ranks']} rank{'s' if row['ranks'] > 1 else ''}, {row['way']}",
            *(spaced(max(row[key]), digits) for key, digits in SCALE_COLUMNS.values()),
        )
        for corpus in values["corpora"]
        for row in corpus["rows"]
    ]
    made = "; ".join(
        f"{spaced(corpus['hours'])} h {spaced(corpus['made']['seconds'])} s and {spaced(corpus['made']['own_mib'])} MiB"
        for corpus in values["corpora"]
    )
    note = f"Shuffling and indexing in stage 4 (time, memory beyond imports): {made}. {where(values)}"
    return markdown(("corpus", *SCALE_COLUMNS), rows, note)


def spaced(value: float, digits: int = 0) -> str:
    """A number with spaces between its thousands."""
    return f"{value:,.{digits}f}".replace(",", " ")


SCALE_COLUMNS = {
    "steps of an epoch": ("steps", 0),
    "check at the start, s": ("check_s", 2),
    "first batch, s": ("first_batch_s", 2),
    "a batch, ms": ("batch_ms", 1),
    "first batch after a resume, s": ("resume_s", 2),
    "memory beyond imports, MiB": ("own_mib", 0),
}


BLOCKS: dict[str, Callable[[Results], str | None]] = {
    "works": works,
    "goals": goals,
    "demo-stages": demo_block("Loss in nats per token"),
    "demo-voices": demo_block("Is it the prompt's voice?"),
    "demo-codec": demo_block("What the codec keeps"),
    "demo-run": demo_block("This run"),
    "demo-compared": demo_compared,
    "codec": codec("codec"),
    "codec-piano": codec("codec_piano"),
    "codec-hour": codec("codec_hour"),
    "librispeech": recipe("librispeech"),
    "atepp": recipe("atepp"),
    "mixed": recipe("mixed"),
    "espeak-text": one_body("espeak_text"),
    "espeak-dialogue": one_body("espeak_dialogue"),
    "folder": folder_block,
    "ablation": ablation,
    "memory": written_from("memory", measured),
    "basics": written_from("basics", measured),
    "decoding": written_from("decoding", engines),
    "acoustic-models": written_from("acoustic_models", acoustic_models),
    "live": live,
    "live-blocks": written_from("live_blocks", live_blocks),
    "live-soak": live_soak,
    "text-speech": written_from("text_speech", text_speech),
    "conversation": written_from("conversation", conversation),
    "acoustic-costs": written_from("acoustic_models", acoustic_costs),
    "atepp-models": lambda results: piano_models(results.get("atepp", {})),
    "soundstorm-passes": written_from("soundstorm_passes", soundstorm_passes),
    "multi-token": written_from("multi_token", multi_token),
    "storage": written_from("storage", storage),
    "continuous": written_from("continuous", measured),
    "codec-steps": codec_steps,
    "long-audio": written_from("long_audio", measured),
    "window-context": window_context,
    "scale": written_from("scale", scale),
    "alignment": alignment,
    "unit-sequences": written_from("unit_sequences", unit_sequences),
    "unit-sequences-hubert": written_from("unit_sequences_hubert", unit_sequences),
    "synthesisers": written_from("synthesisers", synthesisers),
    "encode-share": written_from("encode_share", measured),
    "codecs-command": command("codecs"),
    "codecs-real": codecs("real"),
    "codecs-synthetic": codecs("synthetic"),
    "codecs-bundled-real": codecs("real", only=BUNDLED_CODECS, told=IN_TOKENIZERS),
    "codecs-bundled-synthetic": codecs("synthetic", only=BUNDLED_CODECS, told=IN_TOKENIZERS),
    "codecs-before-command": command("codecs", BEFORE),
    "codecs-before": codecs("real", BEFORE, only=["convnext-120min"]),
    "units-command": command("units"),
    "units-real": units("real"),
    "units-real-confident": units("real_confident"),
    "units-synthetic": units("synthetic"),
    "units-bundled": across_speakers(TABLED_UNITS, told=IN_TOKENIZERS),
    "units-objectives": across_speakers(OBJECTIVES, told=IN_TOKENIZERS),
    "unit-choice": written_from("unit_choice", unit_choice),
    "units-recipe": written_from("units_recipe", reports),
    "units-before": across_speakers(ITERATIONS, BEFORE, told=IN_CODECS),
    "codec-limits": written_from("codec_limits", limits),
    "codec-phases": written_from("codec_phases", limits),
    "sound-codec": written_from("sound_codec", sound_codec),
    "sound-units": written_from("sound_units", sound_units),
    "sound-speakers": written_from("sound_units", sound_speakers),
    "sound-voices": written_from("sound", sound_voices),
    "sound-words": written_from("sound", sound_words),
    "stage-losses": written_from("stage_losses", stage_losses),
    "levels": written_from("levels", levels),
    "watermark": written_from("watermark", watermark),
    "detector": written_from("detector", detector),
    "quality": written_from("quality", quality),
    "suite-times": written_from("suite_times", measured),
    "temperatures": written_from("temperatures", voices_kept),
    "unit-curves": written_from("unit_curves", curves),
    "codec-curves": written_from("codec_curves", curves),
    "codec-hour-curves": written_from("codec_hour_curves", curves),
}
PICTURES = {
    "continuation": (
        "docs/images/continuation.png",
        "Spectrogram of sample 1: three seconds of a recording, then a white line, then five seconds that the bundled model generated",
    ),
    "unit-curves-picture": ("docs/images/unit-curves.png", RUNS),
    "codec-curves-picture": ("docs/images/codec-curves.png", RUNS),
    "codec-hour-picture": ("docs/images/codec-hour.png", RUNS),
    "demo-curves": ("egs/espeak/curves.png", CURVES),
    "librispeech-curves": ("egs/librispeech/curves.png", CURVES),
    "atepp-curves": ("egs/atepp/curves.png", CURVES),
    "mixed-curves": ("egs/mixed/curves.png", CURVES),
    "espeak-text-curves": ("egs/espeak_text/curves.png", "Loss in nats per token over training steps, on train, and by task on dev"),
    "espeak-dialogue-curves": ("egs/espeak_dialogue/curves.png", "Loss in nats per code over training steps, by level on dev"),
    "folder-curves": ("egs/folder/curves.png", CURVES),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where something would change")
    check = parser.parse_args().check
    results, changed = read_results(), []
    for path in documents():
        new = fill(path, results)
        if new != path.read_text(encoding="utf-8"):
            changed.append(path)
            if not check:
                path.write_text(new, encoding="utf-8")
    for path in changed:
        print(f"{'differs' if check else 'wrote'}: {path.relative_to(ROOT)}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
