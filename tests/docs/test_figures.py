"""Figures in the documents are those that were measured."""

import json
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.collect import CollectOptions, collect
from benchmarks.figures import BLOCK, BLOCKS, PICTURES, ROOT, documents, figures_of, fill, read_results
from valle.errors import UserError
from valle.tokenizers.registry import BUNDLED_ACOUSTIC

STAGE = {"train_nll": 1.9, "valid_nll": 2.0, "unigram_nll": 4.5, "accuracy": 0.41}
FINE = {
    "levels": [1, 2], "train_nll_per_codebook": [3.0, 4.0], "nll_per_codebook": [3.1, 4.1], "unigram_nll_per_codebook": [4.2, 4.6],
    "accuracy_per_codebook": [0.3, 0.2],
}  # fmt: skip
ESTIMATE = {"mean": 0.8, "low": 0.7, "high": 0.9, "count": 32}
REPORT = {
    "recordings": 3, "seconds": 60.0,
    "systems": {name: {"stoi": ESTIMATE, "mel_l1": ESTIMATE, "si_sdr": ESTIMATE} for name in ("1", "8", "identity", "silence")},
}  # fmt: skip
TRAINING = {"semantic": STAGE, "coarse": STAGE, "fine": FINE, "steps": 70, "seconds": 480.0, "dtype": "float32"}
DEMO = {
    **TRAINING, "wall_seconds": 720.0, "hours_train": 8.0, "n_voices": 40, "rtf_infer": 0.31, "continuations": [],
    "codec": {
        "real": REPORT, "synthetic": REPORT,
        **dict.fromkeys(("stoi_real_test", "mel_l1", "stoi_synthetic_test", "mel_l1_synthetic_test"), 0.5),
    },
    "voices": {
        **dict.fromkeys(("generated", "real", "round_trip", "shuffled"), ESTIMATE), "chance": 0.025, "num_voices": 40,
        "left_out_after_the_prompt_seconds": 0.63, "silence_share": dict.fromkeys(("generated", "real"), ESTIMATE),
    },
}  # fmt: skip
UNITS_REPORT = {
    "tokenizer": "a tokenizer (0123)", "identity": {"name": "a tokenizer"}, "num_units": 200, "rate_hz": 50.0,
    "utterances": 9, "seconds": 90.0, "min_confidence": 0.0, "abx_context": "same",
    "abx": dict.fromkeys(("across", "within"), dict.fromkeys(("units", "features", "permuted_units"), ESTIMATE)),
    "purity": {"pnmi": 0.6, "low": 0.5, "high": 0.7}, "speaker_probe": {"accuracy": ESTIMATE, "chance": 0.1},
    "bits_per_second": {"bigram": 200.0},
}  # fmt: skip
HOURS = {"train": 0.8, "dev": 0.05, "test": 0.05}
RUN = {"hours": HOURS, "training": TRAINING, "infer": {"rtf": 0.4, "continuations": 8}}
OVER_LLAMA = {"value": 1.25, "spread": [1.1, 1.3], "repeats": 3, "goal": "at least 1", "met": True}
BENCH = {
    "command": "python -m benchmarks.run", "date": "2026-01-02T03:04:05+00:00",
    "machine": {"processor": "A CPU", "cores": 2, "memory_gib": 8.0},
    "decoding": {"256x4, batch 1": {"ours_over_llama": OVER_LLAMA}},
    "goals": [{"figure": "decoding.256x4, batch 1.ours_over_llama", "value": 1.25, "goal": "at least 1", "met": True}],
}  # fmt: skip
BOUNDARIES = {"median_ms": 6.4, "p90_ms": 20.1, "within_20_ms": ESTIMATE, "frames": ESTIMATE}
TIMED = {**dict.fromkeys(("aligned", "even", "mean_durations", "words"), BOUNDARIES), "utterances": 9, "voices": 3, "minutes": 1.5}
RECORDINGS = {
    **dict.fromkeys(("own_better", "score_own", "score_other"), ESTIMATE), "utterances": 4, "minutes": 0.5,
    "lowest_own": -1.2, "highest_other": -1.4, "moved_since_the_round_before": BOUNDARIES,
    "pnmi": {name: {"pnmi": 0.25} for name in ("aligned", "other_text", "mean_durations", "even")},
}  # fmt: skip
CONTEXTS = [{"left_seconds": 2.0, "right_seconds": 0.5, "same": 0.98}]
WINDOWS = {
    "layer": 4, "num_units": 200, "window_seconds": 1.0, "clip_seconds": 30.0, "num_clips": 6,
    "encoders": [{"attention": "bounded", "steps": 1000, "contexts": CONTEXTS}],
}  # fmt: skip
SCALE_ROW = {key: [1.0, 2.0] for key in ("steps", "check_s", "first_batch_s", "batch_ms", "resume_s", "own_mib")}
SCALE = {"hours": 100, "made": {"seconds": 5.0, "own_mib": 40.0}, "rows": [{"ranks": 8, "way": "index", **SCALE_ROW}]}
VARIANT = {"train_nll": 1.4, "valid_nll": 1.5, "unigram_nll": 5.1, "steps": 900, "tokens_per_s": 12345, "dtype": "float32"}
VARIANTS = {"aligned": VARIANT, "prefix": VARIANT}
CODEC_ROW = {
    "name": BUNDLED_ACOUSTIC, "n_codebooks": 2, "kbps": 0.8, "codebook_perplexity": [100.0, 90.0], "rtf_encode": 0.003, "rtf_decode": 0.004,
    **{f"{name}_{corpus}": 0.8 for name in ("stoi", "pesq", "mel_l1", "si_sdr") for corpus in ("real", "synthetic")},
    "intervals": {f"{name}_{corpus}": [0.7, 0.9] for name in ("stoi", "pesq", "mel_l1", "si_sdr") for corpus in ("real", "synthetic")},
}  # fmt: skip
SYNTHETIC_CODEC_ROW = {key: value for key, value in CODEC_ROW.items() if not key.endswith("_real")}
OPUS_ROW = {key: value for key, value in CODEC_ROW.items() if key != "codebook_perplexity"}
for undefined in ("pesq_real", "pesq_synthetic"):  # as of silence
    del OPUS_ROW[undefined]
OPUS_ROW.update(name="opus 6", n_codebooks=None, rtf_encode=None, rtf_decode=None)
RUNS: dict[str, object] = {
    "unit": "nats",
    "runs": [{"name": "run", "steps": 10, "minutes": 1.0, "train": [5.0, 2.0], "dev": [2.1], "dev_accuracy": 0.2}],
}
UNIT_ROW = {
    **dict.fromkeys(("abx_across", "abx_within", "abx_across_features", "speaker_probe"), ESTIMATE), "name": "units", "num_units": 200,
    "min_confidence": 0.0,
    "rate_hz": 50.0, "pnmi": 0.4, "perplexity": 150.0, "bits_per_second": {"unigram": 360.0, "bigram": 250.0}, "minutes": 9.0,
    "controls": {
        **dict.fromkeys(("abx_across_permuted", "abx_within_permuted", "speaker_probe_permuted"), ESTIMATE), "pnmi_permuted": 0.01,
        "speaker_chance": 0.1,
    },
}  # fmt: skip
TOKENIZERS = {
    "runs": {"codecs": BENCH, "units": BENCH},
    "corpora": {corpus: {"recordings": 3, "minutes": 1.0} for corpus in ("real", "synthetic")}, "codecs": [CODEC_ROW, OPUS_ROW],
    "units": [
        {**UNIT_ROW, "corpus": corpus, "name": name}
        for corpus in ("real", "real_confident", "synthetic") for name in {*figures.TABLED_UNITS, *figures.OBJECTIVES, *figures.ITERATIONS}
    ],
}  # fmt: skip
UNIT_SEQUENCES = {
    **BENCH, "tokenizer": "units", "num_units": 200, "unit_rate": 25.0, "vocab_size": 1000, "minutes_each": 4.0,
    "sequences": {
        name: {"tokens_per_second": 25.1, "bits_per_second": 80.0, "unigram_bits_per_second": 184.0, "steps": 90, **more}
        for name, more in (("frames", {}), ("runs", {"duration_bits_per_second": 7.0}), ("bpe", {}))
    },
}  # fmt: skip
ENGINE_ROW = {
    "size": "256x4", "dtype": "float32", "threads": 1, "batch": 1, "tokens_per_s": 900.0, "ms_at_150": 1.0, "ms_at_650": 1.2,
    "share_of_floor": 0.7,
}  # fmt: skip
LEVELS = {"median": -1.0, "least": -4.0, "most": 3.0, "within_3_db": 0.8}
VOICES = {**dict.fromkeys(("generated", "round_trip", "shuffled", "real"), ESTIMATE), "silence_share": {"generated": 0.1, "real": 0.05}}
FOUND = {"value": 0.9, "low": 0.8, "high": 1.0, "whole_recordings": 1.0}
MARKS = {
    "watermark": {
        **BENCH, "watermark_tpr": {"mp3_64k": FOUND, "codec_valle": FOUND}, "pesq": {"value": 4.4, "lowest": 4.3, "highest": 4.5},
        "negatives": {"windows": 10000, "speakers": 9, "files": 20, "files_called_watermarked": 0},
    },
    "detector": {
        **BENCH, "false_alarms": {"none": ESTIMATE, "codec_own": ESTIMATE},
        "found": {"rq": {"none": ESTIMATE}}, "detector_accuracy": {"rq": 0.8},
    },
}  # fmt: skip
MET = {"value": 0.3, "goal": "at most 0.6", "met": True}
LISTENED = {
    **BENCH, "first_audio_ms": {"p50": MET, "p95": MET}, "rtf": MET, "buffer_ms": {"p50": 1.0, "p95": 2.0}, "streams": 50,
    "streams_at_rtf_1": 5,
    "listeners": {
        "held": 4, "first_audio_ms": 300.0, "beyond": {"code": "busy", "retry_after": 3},
        "one_place_more": {"listeners": 5, "with_a_gap": 2},
    },
}  # fmt: skip
SOAK = {
    **BENCH, "streams": 20000, "seconds_with_listeners": 900.0, "memory_mib": dict.fromkeys(("start", "settled", "end"), 400.0),
    "left": dict.fromkeys(("tasks", "handlers", "active", "threads", "descriptors", "warnings"), 0),
}  # fmt: skip
BLOCKS_OF_A_STREAM = {
    **BENCH, "timed": {"0.5 s": {"block_seconds": 0.5, "first_block_seconds": [0.4], "first_audio_ms": OVER_LLAMA, "rtf": OVER_LLAMA}},
    "judged": dict.fromkeys(("0.5 s", "window of the stage"), dict.fromkeys(("generated", "round_trip", "shuffled"), ESTIMATE)),
}  # fmt: skip
WORDS = {kind: {"wer": ESTIMATE} for kind in ("real", "round_trip", "babble")}
STORED = {"float32": None, "int8": ESTIMATE}
PIANO = {**BENCH, "minutes_each": 1.0, "rows": [{
    "name": "rq", "steps": 9, "nll_by_level": [3.0], "unigram_by_level": [5.0], "nats_per_second": None, "continuations": 2,
    "new_seconds": 9.9,
}]}  # fmt: skip
JUDGED = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 40, "controls": {"chance": 0.5, "by mean": 0.5}, "corpus": "", "definition": ""}
HEARD = {**JUDGED, "controls": dict.fromkeys(("real", "codec", "shuffled", "babble"), JUDGED)}
ONE_BODY = {
    "hours": {"train": 1.0},
    "training": {"steps": 3, "seconds": 60.0, "dtype": "float32", "ASR": {"train_nll": 0.1, "valid_nll": 0.2, "accuracy": 0.9}},
}
RESULTS = {
    "sound": {
        **BENCH, "seeds": 4, "max_seconds": 7.0, "recogniser": "whisper-base", "speaker_encoder": "Resemblyzer",
        "corpora": {"natural voices": {"audio-lm": {"voice_kept": HEARD, "words_score": {**JUDGED, "controls": {}}}}},
    },
    "quality": {**BENCH, "bundled": {"syn_blimp": JUDGED, "voice_kept": JUDGED}, "hour": {"syn_blimp": JUDGED}},
    "live": {**LISTENED, "bundled": LISTENED, "soak": {"short": SOAK, "hour": SOAK}}, "live_blocks": BLOCKS_OF_A_STREAM,
    "text_speech": {**BENCH, "recordings": 4, "controls": {
        "TTS": {key: {"English": ESTIMATE, "other_sentences": ESTIMATE} for key in ("synthesiser", "round trip", "own units")},
        "S2ST": {"synthesiser": {"to Spanish": {"bleu": ESTIMATE, "word_error": ESTIMATE}}},
    }, "models": {"joint": {
        "parameters": 3e6, "ASR": {"new voices": ESTIMATE, "other_sentences": ESTIMATE},
        "MT": {"English to Spanish": {"exact": ESTIMATE, "bleu": ESTIMATE}, "other_sentences": {"bleu": ESTIMATE}},
        "spoken": {"TTS": {"English": ESTIMATE}},
    }}},
    "espeak_text": ONE_BODY, "espeak_dialogue": ONE_BODY,
    "conversation": {**BENCH, "voices": 4, "chance": 0.25, "new": {
        "turns": 3, "generated": {"own_voice": ESTIMATE, "other_speakers_voice": ESTIMATE, "word_error": ESTIMATE},
    }},
    **MARKS,
    **dict.fromkeys(("librispeech", "mixed"), RUN),
    "atepp": {**RUN, "acoustic_models": PIANO},
    **dict.fromkeys(("demo", "demo_former", "demo_former_bfloat16", "demo_former_bundled_units"), DEMO),
    "codec": {"speech": REPORT}, "codec_piano": {"piano": REPORT}, "codec_hour": {"speech": REPORT},
    "folder": {**RUN, "before": TRAINING, "after": TRAINING},
    "codec_steps": {**BENCH, "seconds": {"msstft": {key: {"value": 0.9, "spread": [0.8, 1.0]} for key in ("float32", "bfloat16")}}},
    "unit_sequences": UNIT_SEQUENCES, "unit_sequences_hubert": UNIT_SEQUENCES,
    "alignment": {**BENCH, "title": "real", "rounds": [{"round": number, "timed": TIMED, "recordings": RECORDINGS} for number in (0, 1)]},
    **{key: {**BENCH, **RUNS} for key in ("unit_curves", "codec_curves", "codec_hour_curves")},
    "tokenizers": TOKENIZERS, "tokenizers_before": TOKENIZERS,
    "units_recipe": {"title": "fresh voices", "reports": [UNITS_REPORT]},
    "unit_choice": {"choice": [{"layer": 4, "num_units": 200, "standardised": True, "abx_across": {"units": ESTIMATE}}]},
    "codec_limits": {**BENCH, "recordings": 3, "codecs": {"a codec": {"its codes": {"stoi": ESTIMATE}}}}, "long_audio": BENCH,
    "codec_phases": {**BENCH, "recordings": 3, "codecs": {"a codec": {"its codes": {"stoi": ESTIMATE}}}},
    "sound_codec": {
        **BENCH, "title": "speech", "utterances": 3, "minutes": 0.5, "recogniser": "whisper", "original": {"name": "the recording itself"},
        "rows": [{"name": "a codec", "codebooks": 8, "kbps": 3.2, "measures": {"stoi": ESTIMATE}, "times_original": ESTIMATE}],
    },
    "sound_units": {
        **BENCH, "speaker_probe": {"voices": {"left_out": "no speakers"}},
        "corpora": {"real": {"title": "real", "cuts": 3, "minutes": 0.5, "rows": [{
            "name": "units", "num_units": 9, "rate_hz": 50.0, "abx": {"units": {"collapsed": ESTIMATE}}, "pnmi": {"pnmi": 0.3},
            "less_than_control": {"collapsed": ESTIMATE, "flat": ESTIMATE}, "in_use": 9, "bits_per_second": {"unigram": 1, "bigram": 1},
        }]}},
    },
    "window_context": {**BENCH, **WINDOWS},
    "levels": {**BENCH, "num_prompts": 16, "num_voices": 8, "real": {"difference_db": LEVELS}, "rows": [
        {"level": level, "samples": "float", "factor_db": -40, "difference_db": LEVELS, "units": 1.0, "codes": 1.0, "voice": ESTIMATE}
        for level in ("speech", "none")
    ]},
    "scale": {**BENCH, "corpora": [SCALE]},
    "acoustic_models": {**BENCH, "minutes_each": 20.0, "tune_minutes": 2.5, "models": [
        {
            "name": name, "corpus": corpus, "parameters": 7_500_000, "steps": 900, "hours_of_audio_read": 2.5, "nats_per_second": nats,
            "voice_kept": ESTIMATE, "stoi": ESTIMATE, "stoi_of_round_trip": ESTIMATE, "memory_mib": 512, "rtf": 0.1, **more,
            "seconds_for_10s": {"torch": 2.0, "native": 1.0},
            "controls": {"round_trip": ESTIMATE, "shuffled": ESTIMATE, **({"words": WORDS} if more else {})},
        }
        for corpus, more in (("espeak", {}), ("librispeech", {"wer": ESTIMATE, "training_memory_mib": 900}))
        for name, nats in (("delay", {"valid_nats_per_second": 1500.0, "unigram_nats_per_second": 1900.0}), ("soundstorm", None))
    ]},
    "soundstorm_passes": {**BENCH, "controls": dict.fromkeys(("round_trip", "shuffled"), ESTIMATE), "rows": [
        {
            "passes": count, "passes_of_all_levels": count + 7, "seconds": 3.0, "seconds_of_bare_passes": 2.5,
            **dict.fromkeys(("stoi", "stoi_of_round_trip", "voice_kept"), ESTIMATE),
        }
        for count in (16, 1)
    ]},
    "multi_token": {**BENCH, "mtp": [
        {"stage": "coarse", "heads": "chained", "engine": "torch", "batch": 1, "k": k, "accepted": 1.8, "speed_up": 1.3, "same_rows": 1.0}
        for k in (1, 2)
    ]},
    "storage": {
        **BENCH, "recordings": 8, "voices": {kept: dict.fromkeys(("generated", "round_trip", "shuffled"), ESTIMATE) for kept in STORED},
        "rows": [{"storage": kept, "stage": "coarse", "nats_per_token": 2.1, "more_than_float32": more} for kept, more in STORED.items()],
    },
    "continuous": {**BENCH, "static_tokens_per_s": OVER_LLAMA, "continuous_over_static": OVER_LLAMA},
    **{name: {**BENCH, "corpora": {"real": {"a model": VOICES}}} for name in ("temperatures",)},
    **dict.fromkeys(("basics", "memory", "encode_share"), BENCH),
    "stage_losses": {**BENCH, "recordings": 24, "recogniser": "Whisper base", "speaker_encoder": "Resemblyzer", "rows": [
        {"name": name, "words_in_lexicon": ESTIMATE, "lexicon_words_per_second": ESTIMATE, "voice_cosine": ESTIMATE}
        for name in ("the recording itself", "all codes generated")
    ]},
    "suite_times": {**BENCH, "decoding": {}, "suites": {"codec": OVER_LLAMA, "score": OVER_LLAMA}, "pages": {"report": OVER_LLAMA}},
    "decoding": {
        **BENCH, "rows": [{**ENGINE_ROW, "engine": engine} for engine in ("native", "torch", "llama", "ctranslate2")],
        "starts": [{"engine": engine, "kernel_cache": "empty", "first_token_s": 2.5, "total_s": 4.5} for engine in ("torch", "auto")],
    },
    "ablation": {**BENCH, "minutes_each": 4.0, "coarse": VARIANTS, "fine": VARIANTS},
    "synthesisers": {**BENCH, "recogniser": "Whisper base", "codec": "valle-convnext", "sentences": 20, "synthesisers": {"hibari": {
        "heard": {kind: {"word_error": ESTIMATE, "in_lexicon": ESTIMATE} for kind in ("base", "voices", "codec")},
        "voices": {"whole": ESTIMATE, "pitch, formants and tempo": ESTIMATE},
    }}},
}  # fmt: skip


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_says_what_was_measured(document: Path) -> None:
    assert fill(document, read_results()) == document.read_text(encoding="utf-8"), "run python3 -m benchmarks.figures"


def test_every_block_stands_in_some_document() -> None:
    placed = {match["name"] for document in documents() for match in BLOCK.finditer(document.read_text(encoding="utf-8"))}
    assert placed == {*BLOCKS, *PICTURES}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_written_from_its_results_and_kept_without_them(name: str, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n<!-- figures: {name} -->\nstale\n<!-- end -->\nafter\n")
    assert fill(page, {}, tmp_path) == page.read_text()
    filled = fill(page, RESULTS, tmp_path)
    assert "stale" not in filled and filled.startswith("before\n<!-- figures") and filled.endswith("<!-- end -->\nafter\n")
    assert ("\n| " in filled and "|---|" in filled) or "```bash\npython3 -m benchmarks." in filled
    page.write_text(filled)
    assert fill(page, RESULTS, tmp_path) == filled  # writing again changes nothing


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith(("works", "codecs-", "units-"))])
@pytest.mark.parametrize("part", ["codecs", "units"])
def test_tables_of_tokenizers_bear_that_one_part_was_measured_on_synthetic_speech_alone(name: str, part: str, tmp_path: Path) -> None:
    parts = {
        "codecs": {"corpora": {"synthetic": {"recordings": 3, "minutes": 1.0}}, "codecs": [SYNTHETIC_CODEC_ROW]},
        "units": {"units": [{**UNIT_ROW, "corpus": "synthetic", "name": "mfcc-kmeans"}]},
    }
    page = tmp_path / "README.md"
    page.write_text(f"<!-- figures: {name} -->\nstale\n<!-- end -->\n")
    written = {"codecs": ("codecs-command", "codecs-synthetic", "codecs-bundled-synthetic"), "units": ("units-command", "units-synthetic")}
    filled = fill(page, {"tokenizers": {"runs": {part: BENCH}, **parts[part]}}, tmp_path)
    assert (filled != page.read_text()) == (name in written[part])


def test_the_front_page_shows_at_most_ten_results_each_beside_a_known_one() -> None:
    lines = (BLOCKS["works"](read_results()) or "").splitlines()
    assert 1 <= len(lines) - 2 <= 10
    assert all(all(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:])


def test_results_that_are_missing_leave_their_rows_out_of_the_front_page() -> None:
    assert "Opus" in (BLOCKS["works"](read_results()) or "")
    alone = (BLOCKS["works"]({"demo": DEMO}) or "").splitlines()
    assert len(alone) == 3 and "| 80 % (70 to 90) | real speech 80 %, through the codec 80 %, wrong prompt 80 % |" in alone[2]


def test_every_goal_is_shown_as_met_or_missed() -> None:
    missed = {**BENCH, "decoding": {"256x4, batch 1": {"end_over_beginning": {**OVER_LLAMA, "met": False}}}}
    text = BLOCKS["goals"]({"basics": BENCH, "memory": missed}) or ""
    assert "| decoding, 4 layers of 256, batch 1: speed over Llama's | 1.25 | at least 1 | met |" in text
    assert "speed at 650 tokens over speed at 150 | 1.25 | at least 1 | **missed** |" in text


def test_a_figure_without_a_plain_name_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a plain name for decoding/flat_but_for_nothing"):
        list(figures_of({"decoding": {"flat_but_for_nothing": OVER_LLAMA}}))


def test_no_row_is_named_by_a_raw_key() -> None:
    for name in ("basics", "memory", "long_audio", "encode_share"):
        names = [words for words, _ in figures_of(read_results()[name])]
        assert names and len(set(names)) == len(names)
        assert not [words for words in names if "_" in words or "rtf" in words or " gib" in words]


def test_a_picture_is_shown_once_it_is_there(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "curves.md"
    page.parent.mkdir()
    page.write_text("<!-- figures: demo-curves -->\n<!-- end -->\n")
    assert fill(page, {}, tmp_path) == page.read_text()
    (tmp_path / "egs" / "espeak").mkdir(parents=True)
    (tmp_path / "egs" / "espeak" / "curves.png").touch()
    assert "](../egs/espeak/curves.png)\n<!-- end -->" in fill(page, {}, tmp_path)
    beside = tmp_path / "egs" / "espeak" / "README.md"
    beside.write_text(page.read_text())
    assert "](curves.png)" in fill(beside, {}, tmp_path)


def test_an_unknown_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- figures: speling -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match="speling"):
        fill(tmp_path / "README.md", {}, tmp_path)


def test_the_figures_of_a_benchmark_have_plain_names() -> None:
    assert [words for words, _ in figures_of(BENCH)] == ["decoding, 4 layers of 256, batch 1: speed over Llama's"]
    lines = (BLOCKS["basics"](RESULTS) or "").splitlines()
    assert lines[2:4] == ["| decoding, 4 layers of 256, batch 1: speed over Llama's | 1.25 | 1.1 to 1.3 | at least 1 |", ""]
    assert lines[4] == "A CPU, 2 cores, 8.0 GiB; `python -m benchmarks.run`, 2026-01-02."


def test_the_ablation_has_a_row_a_run() -> None:
    lines = (BLOCKS["ablation"](RESULTS) or "").splitlines()
    assert lines[2:4] == [
        "| coarse | aligned | 1.40 | 1.50 | 5.10 | 900 | 12 345 |",
        "| coarse | prefix | 1.40 | 1.50 | 5.10 | 900 | 12 345 |",
    ]
    assert len(lines) == 8 and lines[-1].startswith("4 minutes each")


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def curve() -> str:
    return "".join(json.dumps({"step": step, "part": "coarse", "kind": "valid", "nll": 3.0}) + "\n" for step in (5, 10))


@pytest.mark.parametrize("recipe", ["librispeech", "folder"])
def test_a_recipe_leaves_its_figures_and_its_curves(recipe: str, tmp_path: Path) -> None:
    exp_dir = tmp_path / "egs" / recipe / "exp" / "audio-lm"
    for name in ("summary.json", "before.json", "after.json"):
        write(exp_dir / name, TRAINING)
    write(exp_dir / "curves.jsonl", curve())
    write(exp_dir / "continued" / "summary.json", {"rtf": 0.4, "items": [{}, {}]})
    write(tmp_path / "egs" / recipe / "data" / "tokenized" / "info.json", {"statistics": {"train": {"hours": 0.5}}})
    path = collect(CollectOptions(recipe=recipe, root=tmp_path))  # type: ignore[arg-type]
    values = json.loads(path.read_text())
    assert path == tmp_path / "benchmarks" / "results" / f"{recipe}.json"
    assert values["hours"] == {"train": 0.5} and values["training"] == TRAINING and values["infer"] == {"rtf": 0.4, "continuations": 2}
    assert ("before" in values) == (recipe == "folder") and (tmp_path / "egs" / recipe / "curves.png").is_file()
    assert BLOCKS[recipe]({recipe: values})


def test_a_demo_is_collected_only_once_it_has_ended(tmp_path: Path) -> None:
    exp_dir = tmp_path / "egs" / "espeak" / "exp" / "demo"
    options = CollectOptions(recipe="demo", root=tmp_path)
    with pytest.raises(UserError, match="found nothing there"):
        collect(options)
    write(exp_dir / "summary.json", TRAINING)
    with pytest.raises(UserError, match="let make demo end"):
        collect(options)
    write(exp_dir / "summary.json", DEMO)
    write(exp_dir / "curves.png", "a picture")
    assert json.loads(collect(options).read_text()) == DEMO
    assert (tmp_path / "egs" / "espeak" / "curves.png").read_text() == "a picture"


def test_bleu_is_no_share() -> None:
    text = BLOCKS["text-speech"](RESULTS) or ""
    assert "| MT, exact sentences, English to Spanish | 80.0 (70.0 to 90.0) |  |" in text
    assert "| MT, BLEU, English to Spanish | 0.8 (0.7 to 0.9) | answers to other sentences 0.8 (0.7 to 0.9) |" in text
    assert "| TTS, word error that Whisper hears, English | 80.0 (70.0 to 90.0) | the synthesiser's own 80.0 (70.0 to 90.0)," in text
