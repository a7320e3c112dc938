"""What ``bin/transcribe.py``, ``bin/speak.py`` and ``bin/translate.py`` do: recordings or lines of text in, texts or sound out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from valle.audio import Waveform, read_audio, write_wav
from valle.errors import UserError
from valle.files import plain_stem, write_text
from valle.inference.pipeline import Pipeline
from valle.inference.similarity_picture import write_similarity
from valle.inference.text_speech import Answer, TextSpeech
from valle.inference.trained_model import trained_model
from valle.inference.transcriber import Transcriber, load_listener
from valle.models.hub import find_model
from valle.models.released import load_released
from valle.outputs import claim_file, claim_outputs
from valle.settings import require_at_least, setting


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """What all three programs need."""

    model: Path = setting(Path("exp/joint-lm"), "a joint-lm: a trainer's folder, a checkpoint, or a released folder")
    device: str = setting("cpu", "cpu, cuda, mps or auto")
    seed: int = setting(0, "seed of what is drawn")

    def load(self, voice_model: Pipeline | None = None) -> TextSpeech:
        return TextSpeech.from_pretrained(self.model, voice_model=voice_model, device=self.device)


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions(AskOptions):
    """Flags of ``bin/transcribe.py``."""

    model: Path = setting(Path("exp/joint-lm"), "a joint-lm or a speech-llama: a trainer's folder, a checkpoint, or a released folder")
    audio: list[Path] = setting([], "recordings of one sentence each")
    language: str = setting("English", "their language, by its English name")
    output: Path | None = setting(None, "a file for the transcripts, a line each: path, tab, text")
    by: Literal["llama", "ctc", "text"] | None = setting(
        None, "of a speech-llama: the text LM (llama), its encoder alone (ctc), or the text LM without the recording, as a control (text)"
    )
    draft_tokens: int = setting(0, "of a speech-llama with draft heads: tokens that a step guesses; the text stays the same")
    similarity_dir: Path | None = setting(None, "of a speech-llama: a folder for pictures of how its text resembles what it hears")

    def __post_init__(self) -> None:
        if not self.audio:
            raise UserError("expected recordings after --audio, found none; name one or more")
        require_at_least(self, 0, "draft_tokens")

    @property
    def asks_a_speech_llama(self) -> bool:
        return self.by is not None or self.draft_tokens > 0 or self.similarity_dir is not None


@dataclass(frozen=True, kw_only=True)
class SoundOptions(AskOptions):
    """What a program needs that makes sound."""

    voice_model: str | None = setting(None, "the AudioLM that turns units into sound: a trainer's folder, a checkpoint, a released folder")
    voice: Path | None = setting(None, "a recording whose first 3 s give the voice")
    output_dir: Path = setting(Path("spoken"), "folder for the wavs")

    def load_voice(self) -> Pipeline:
        """The model of ``--voice-model``; the bundled one without it."""
        path = Path(self.voice_model) if self.voice_model else None
        if path is not None and (path.is_file() or (path.is_dir() and not (path / "config.yaml").is_file())):
            is_file = path.is_file()
            released = trained_model(
                checkpoint=path if is_file else None, exp_dir=None if is_file else path, epoch=0, avg=1, use_averaged_model=False
            )
            return Pipeline(released, device=self.device)
        if path is None:
            return Pipeline.from_pretrained(device=self.device)
        return Pipeline(load_released(find_model(self.voice_model or "")), device=self.device)

    def read_voice(self) -> tuple[Waveform, int]:
        if self.voice is None:
            raise UserError("expected a recording of a voice after --voice, found none; name one of 3 s or more")
        return read_audio(self.voice)


@dataclass(frozen=True, kw_only=True)
class SpeakOptions(SoundOptions):
    """Flags of ``bin/speak.py``."""

    text: list[str] = setting([], "sentences to speak, each in quotes")
    text_file: Path | None = setting(None, "a file of sentences, one a line, instead")
    language: str = setting("English", "their language, by its English name")

    def __post_init__(self) -> None:
        if bool(self.text) == (self.text_file is not None):
            raise UserError("expected sentences after --text, or a file of them after --text-file, found both or neither; give one")

    def sentences(self) -> list[str]:
        return self.text or _lines(self.text_file)


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(SoundOptions):
    """Flags of ``bin/translate.py``."""

    text: list[str] = setting([], "sentences to translate, each in quotes")
    audio: list[Path] = setting([], "recordings of one sentence each to translate, instead")
    source: str = setting("English", "the language that is given, by its English name")
    target: str = setting("Spanish", "the language to translate to")
    task: str | None = setting(None, "MT of texts; of recordings AST (text), S2ST (sound), or a chain such as ASR+AST+S2ST")

    def __post_init__(self) -> None:
        if bool(self.text) == bool(self.audio):
            raise UserError("expected sentences after --text, or recordings after --audio, found both or neither; give one")

    @property
    def asked(self) -> str:
        return (self.task or ("MT" if self.text else "AST")).upper()

    @property
    def makes_sound(self) -> bool:
        return any(step in ("S2ST", "TTS") for step in self.asked.split("+"))


def transcribe(options: TranscribeOptions) -> list[tuple[Path, str]]:
    """The transcript of every recording, written to ``--output`` too where that is given."""
    outputs = None if options.output is None else claim_file(options.output, program="transcribe")
    listener, found = load_listener(options.model, device=options.device), []
    if not isinstance(listener, Transcriber) and options.asks_a_speech_llama:
        raise UserError(f"--by, --draft-tokens and --similarity-dir are for a speech-llama, found a joint-lm in {options.model}")
    for path in options.audio:
        if isinstance(listener, Transcriber):
            [text] = listener.transcribe(*read_audio(path), language=options.language, by=options.by, draft_tokens=options.draft_tokens)
        else:
            [text] = listener.transcribe(*read_audio(path), language=options.language)
        found.append((path, text))
    if options.similarity_dir is not None and isinstance(listener, Transcriber):
        _write_similarities(options.similarity_dir, listener, found)
    if outputs is not None and options.output is not None:
        with outputs.being_written():
            write_text(options.output, "".join(f"{path}\t{text}\n" for path, text in found))
    return found


def _write_similarities(folder: Path, listener: Transcriber, found: Sequence[tuple[Path, str]]) -> None:
    """A picture of every recording of which something was written down."""
    pictures = [(path, text, f"{plain_stem(path.stem)}.png") for path, text in found if text]
    with claim_outputs(folder, _different([name for _, _, name in pictures]), program="transcribe").being_written():
        for path, text, name in pictures:
            cosines = listener.similarity(*read_audio(path), text=text)
            write_similarity(folder / name, cosines, listener.pieces(text), stride_ms=listener.model.config.stride_ms)


def speak(options: SpeakOptions) -> list[tuple[Path, str]]:
    """The wav of every sentence, and what was spoken."""
    sentences, (voice, rate) = options.sentences(), options.read_voice()
    speech = options.load(options.load_voice())
    sounds = speech.speak(sentences, language=options.language, voice=voice, voice_sample_rate=rate, seed=options.seed)
    paths = _write(options, [f"{number:04d}" for number in range(len(sounds))], sounds, speech, program="speak")
    return list(zip(paths, sentences, strict=True))


def translate(options: TranslateOptions) -> list[Answer]:
    """The answer to every input; sound, where the task gives some, goes to ``--output-dir``."""
    voice = options.read_voice() if options.makes_sound else None
    speech = options.load(options.load_voice() if options.makes_sound else None)
    if options.text:
        found = speech.answer_text(options.asked, options.text, source=options.source, target=options.target, seed=options.seed)
        names = [f"{number:04d}" for number in range(len(found))]
    else:
        found, names = [], [plain_stem(path.stem) for path in options.audio]
        for path in options.audio:
            found += speech.translate_audio(
                *read_audio(path), source=options.source, target=options.target, task=options.asked, seed=options.seed
            )
    if voice is not None:
        sounds = speech.sound([answer.units for answer in found], voice=voice[0], voice_sample_rate=voice[1], seed=options.seed)
        _write(options, names, sounds, speech, program="translate")
    return found


def _write(options: SoundOptions, names: Sequence[str], sounds: Sequence[Waveform], speech: TextSpeech, *, program: str) -> list[Path]:
    assert speech.voice_model is not None  # it made the sound
    files = _different([f"{name}.wav" for name in names])
    with claim_outputs(options.output_dir, files, program=program).being_written():
        for name, sound in zip(files, sounds, strict=True):
            write_wav(options.output_dir / name, sound, speech.voice_model.sample_rate)
    return [options.output_dir / name for name in files]


def _different(files: list[str]) -> list[str]:
    """Names of outputs, if no two are the same."""
    if len(set(files)) < len(files):
        raise UserError(f"expected recordings of different names, as their outputs have, found {', '.join(files)}; rename one")
    return files


def _lines(path: Path | None) -> list[str]:
    assert path is not None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a file of sentences in UTF-8 at {path}, found none that can be read; check --text-file") from error
    if not lines:
        raise UserError(f"expected sentences in {path}, one a line, found none; write some")
    return lines
