"""Training speech-llama: the loop's own promises for it, parts that come from other runs, and what is released and transcribes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_speech import RATE, TONES, tiny_hubert
from tiny_text_models import write_text_model, write_tokenizer_json
from tiny_texts import tiny_joint_options
from tiny_training import differences, progress_of
from tiny_transcribed import sentence, spoken, tiny_llama_options, write_transcribed_corpus

from valle.errors import UserError
from valle.inference import transcriber
from valle.inference.export import ExportOptions, export
from valle.inference.transcriber import Transcriber
from valle.models.checkpoint import load_checkpoint
from valle.models.joint_lm import JointLM
from valle.models.speech_llama_released import load_speech_llama, speech_llama_from_checkpoint
from valle.tokenizers.registry import save_tokenizer
from valle.tokenizers.text_pieces import load_text_tokenizer
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.loop import Loop
from valle.training.speech_llama_options import SpeechLlamaOptions
from valle.training.speech_llama_task import SpeechLlamaTask
from valle.training.train_speech_llama import train_speech_llama


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transcribed_corpus(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(scope="module")
def run(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechLlamaOptions:
    """A finished run."""
    options = tiny_llama_options(manifests, tmp_path_factory.mktemp("run"), drafts=1)
    train_speech_llama(options)
    return options


@pytest.fixture(scope="module")
def text_lm(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text LM in a released folder, of random weights."""
    from valle.models.joint_released import ReleasedJoint, save_joint

    folder, text = tmp_path_factory.mktemp("lm") / "released", load_text_tokenizer(manifests.parent / "tokenizers/text")
    torch.manual_seed(3)
    options = tiny_joint_options(manifests, folder, tasks=["LM"])
    model = JointLM(options.config(num_pieces=text.num_pieces, num_units=0)).eval()
    save_joint(ReleasedJoint(model=model, text=text, semantic=None, tasks=("LM",), longest_seconds=0.0), folder, dtype=torch.float32)
    return folder


def last(options: SpeechLlamaOptions) -> dict[str, Any]:
    return load_checkpoint(options.exp_dir / f"epoch-{options.num_epochs}.pt")


def test_a_run_ends_with_both_losses_and_those_of_draft_heads(run: SpeechLlamaOptions) -> None:
    summary = json.loads((run.exp_dir / "summary.json").read_text())
    assert all(summary[name]["valid_nll"] > 0 for name in ("ctc", "llama", "llama_draft1"))
    assert summary["trained_parameters"] > 0


@pytest.mark.parametrize("lm_training", ["full", "lora"])
def test_a_run_that_stopped_goes_on_to_the_same_weights(manifests: Path, text_lm: Path, lm_training: Any, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"lm_training": lm_training, "lm": text_lm, "voice_change": 0.1, "encoder_dropout": 0.1}
    whole, stopped = (tiny_llama_options(manifests, tmp_path / name, **changes) for name in ("whole", "stopped"))
    train_speech_llama(whole)
    early = tiny_llama_options(manifests, tmp_path / "stopped", max_steps=4, **changes)
    Loop(SpeechLlamaTask(early), early, World()).run()
    assert load_checkpoint(tmp_path / "stopped" / "checkpoint-4.pt")["counters"]["step"] == 4
    train_speech_llama(stopped)
    ours, theirs = (progress_of(last(found))["model"] for found in (stopped, whole))
    assert differences(ours, theirs) == []


def test_another_stride_is_another_run(run: SpeechLlamaOptions, manifests: Path) -> None:
    with pytest.raises(OtherRunError, match="--stride was 80, now 160"):
        train_speech_llama(tiny_llama_options(manifests, run.exp_dir, drafts=1, stride=160))


def test_every_utterance_is_heard_once_an_epoch_and_ranks_share_batches(manifests: Path, tmp_path: Path) -> None:
    task = SpeechLlamaTask(tiny_llama_options(manifests, tmp_path, prompt="{language}"))
    batches = list(task.batches(epoch=1, skip=0, world=World()))
    assert sorted(cut for batch in batches for cut in batch.cut_ids) == sorted(utterance.id for utterance in task.train_speech)
    assert [batch.cut_ids for batch in task.batches(epoch=1, skip=1, world=World())] == [batch.cut_ids for batch in batches[1:]]
    assert all(batch["wav"].numel() <= 6.0 * RATE or len(batch["wav"]) == 1 for batch in batches)
    for batch in batches:
        for cut, prompt, length in zip(batch.cut_ids, batch["prompts"], batch["prompt_lengths"].tolist(), strict=True):
            language = ("English", "Spanish")[int(cut.rpartition("-")[2]) % 2]
            assert prompt[:length].tolist() == [task.model.config.bos, *task.text.encode(language)]


def test_an_encoder_that_has_learned_by_ctc_leads_into_a_frozen_lm(manifests: Path, text_lm: Path, tmp_path: Path) -> None:
    ctc = tiny_llama_options(manifests, tmp_path / "ctc", train_stage="ctc", num_epochs=1)
    train_speech_llama(ctc)
    learned = last(ctc)["model"]
    options = tiny_llama_options(
        manifests, tmp_path / "llama", train_stage="llama", encoder_from=ctc.exp_dir, encoder_dim=48, lm=text_lm, lm_training="frozen",
        num_epochs=1,
    )  # fmt: skip
    train_speech_llama(options)
    ours, lm = last(options)["model"], load_speech_llama(options.exp_dir).model.lm.state_dict()
    kept = [name for name in learned if name.startswith(("encoder.", "ctc_head."))]
    assert len(kept) > 10 and all(torch.equal(ours[name], learned[name]) for name in kept)
    from valle.models.joint_released import load_joint

    assert all(torch.equal(lm[name], tensor) for name, tensor in load_joint(text_lm).model.state_dict().items())
    assert load_speech_llama(options.exp_dir).learned == ("ctc", "llama") and load_speech_llama(ctc.exp_dir).learned == ("ctc",)
    [only_ctc] = Transcriber.from_pretrained(ctc.exp_dir).transcribe(spoken("aei"), RATE)
    assert isinstance(only_ctc, str)
    with pytest.raises(UserError, match="has learned ctc, not llama"):
        Transcriber.from_pretrained(ctc.exp_dir).transcribe(spoken("aei"), RATE, by="llama")


def test_frames_of_a_tokenizer_take_the_place_of_an_encoder(manifests: Path, text_lm: Path, tmp_path: Path) -> None:
    save_tokenizer(tiny_hubert(), tmp_path / "units")
    options = tiny_llama_options(
        manifests, tmp_path / "run", train_stage="llama", encoder=str(tmp_path / "units"), lm=text_lm, lm_training="frozen", num_epochs=1
    )
    train_speech_llama(options)
    released = load_speech_llama(options.exp_dir)
    assert released.frames is not None and released.model.encoder is None and released.model.config.frame_dim == 32
    export(ExportOptions(output_dir=tmp_path / "released", exp_dir=options.exp_dir, dtype="float32"))
    wav = spoken(sentence(1))
    one, other = (Transcriber.from_pretrained(path).transcribe(wav, RATE) for path in (options.exp_dir, tmp_path / "released"))
    assert one == other


@pytest.mark.parametrize("kind", ["llama", "smollm", "qwen2"])
def test_a_released_text_model_reads_speech_by_lora(kind: str, manifests: Path, tmp_path: Path) -> None:
    words = sorted({word for number in range(30) for word in sentence(number).split()})
    write_text_model(kind, tmp_path / "lm", vocab_size=len(words) + 5, bos_token_id=1, eos_token_id=2)
    write_tokenizer_json(tmp_path / "lm", words)
    options = tiny_llama_options(manifests, tmp_path / "run", lm=tmp_path / "lm", lm_training="lora", num_epochs=1)
    train_speech_llama(options)
    state = last(options)["model"]
    assert sum("lora_A" in name for name in state) == 2 * 4
    listener = Transcriber.from_pretrained(options.exp_dir)
    assert listener.model.config.eos == 2 and listener.released.transcripts.text.num_pieces == len(words) + 3
    assert len(listener.transcribe([spoken("aei"), spoken("oiea")], RATE)) == 2


def test_a_model_learns_its_sentences_by_heart_by_ctc_and_by_the_lm(tmp_path: Path) -> None:
    manifests = write_transcribed_corpus(tmp_path, num_train=4)
    options = tiny_llama_options(
        manifests, tmp_path / "run", num_epochs=300, max_steps=300, scheduler_name="cosine", base_lr=0.01, epoch_ends=False, save_every_n=0,
        valid_interval=1000, max_duration=12.0, drafts=2,
    )  # fmt: skip
    train_speech_llama(options)
    listener = Transcriber(speech_llama_from_checkpoint(load_checkpoint(options.exp_dir / "checkpoint-300.pt")))
    recordings = [spoken(sentence(number), seed=number) for number in range(4)]
    wanted = [sentence(number) for number in range(4)]
    assert listener.transcribe(recordings, RATE) == wanted
    assert listener.transcribe(recordings, RATE, draft_tokens=2) == wanted
    assert listener.transcribe(recordings, RATE, by="ctc") == wanted
    deaf = listener.transcribe(recordings, RATE, by="text")
    assert len(set(deaf)) == 1 and set("".join(deaf)) <= {*TONES, " "}


def test_a_released_folder_transcribes_as_the_checkpoint_does(
    run: SpeechLlamaOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = export(ExportOptions(output_dir=tmp_path / "released", exp_dir=run.exp_dir, dtype="float32"))
    one, other = (Transcriber.from_pretrained(path) for path in (run.exp_dir, tmp_path / "released"))
    assert parameters == sum(parameter.numel() for parameter in other.model.parameters())
    monkeypatch.setattr(transcriber, "MOST_PIECES", 20)
    recordings = [spoken(sentence(number)) for number in range(3)]
    for way in ("llama", "ctc", "text"):
        assert one.transcribe(recordings, RATE, by=way) == other.transcribe(recordings, RATE, by=way)  # type: ignore[arg-type]
    assert one.released.transcripts.text.identity == other.released.transcripts.text.identity


def test_settings_that_do_not_go_together_are_refused(manifests: Path, tmp_path: Path) -> None:
    for changes, said in (
        ({"lm_training": "lora"}, "needs a text LM that has learned something"),
        ({"train_stage": "llama"}, "needs an encoder that has learned to hear"),
        ({"encoder": "bundled", "tune_encoder": True}, "are for --encoder ctc"),
        ({"stride": 90}, "a multiple of 20 ms"),
        ({"voice_change": 0.9}, "within 0..0.5"),
        ({"filter_max_duration": 0.2}, "leaves nothing below"),
        ({"filter_max_duration": 0.31}, "expected cuts with transcripts"),
        ({"manifest_dir": tmp_path}, "expected a manifest"),
    ):
        with pytest.raises(UserError, match=said):
            SpeechLlamaTask(tiny_llama_options(manifests, tmp_path / "no", **changes))
    assert not (tmp_path / "no").exists()
