"""Units of one's own audio: k-means on a uniform sample of MFCCs or of a layer of an encoder, by one process or several."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from valle.audio import AudioFileError, Waveform, audio_pieces
from valle.errors import UserError
from valle.files import shown
from valle.outputs import claim_outputs
from valle.progress import Progress
from valle.tokenizers.base import TokenizerIdentity
from valle.tokenizers.clustered_units import ClusteredUnits
from valle.tokenizers.code_units import CodeUnits, CodeUnitsConfig
from valle.tokenizers.hubert import HubertConfig, HubertTokenizer, hubert_from_encoder
from valle.tokenizers.kmeans_fit import ALONE, Processes
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans, fit_mfcc_kmeans
from valle.tokenizers.pretrained_units import ENCODERS
from valle.tokenizers.registry import (
    BUNDLED,
    BUNDLED_SEMANTIC,
    CONFIG_FILE,
    WEIGHTS_FILE,
    load_tokenizer,
    load_unfitted,
    save_tokenizer,
)
from valle.tokenizers.speech_encoder import SpeechEncoder
from valle.tokenizing.found_files import find_audio
from valle.tokenizing.training_audio import training_audio
from valle.training.speech_encoder_fit import fit_codes, fit_units, load_encoder
from valle.training.voice_whitening import fit_voice_whitened

NO_LAYER = "expected the layer of {} whose states are clustered, found none; give --layer, from 1"


class FitError(UserError):
    """What units cannot be fitted on, or with."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Whose states are clustered, on what audio, into how many units."""

    encoder: str = field(
        default="mfcc",
        metadata={
            "help": "mfcc, an exp-dir of trainer_speech_encoder.py, units whose encoder is clustered anew (valle-hubert or a folder), "
            "or a released encoder: NAME or NAME=FOLDER"
        },
    )
    layer: int = field(default=-1, metadata={"help": "the encoder's layer, from 1; 0: the codes of a quantizer (vq-wav2vec)"})
    num_units: int = field(default=200, metadata={"help": "how many units"})
    frames_per_unit: int = field(default=0, metadata={"help": "1 for 50 Hz, 2 for 25 Hz; 0: 2 for mfcc, 1 for an encoder"})
    name: str = field(default="", metadata={"help": "name of the tokenizer; default: made from the other settings"})
    standardise: bool = field(default=True, metadata={"help": "standardise each dimension (AudioLM reports that it matters)"})
    voice_change: float = field(
        default=0.0,
        metadata={"help": "cluster where a change of voice (frequencies by up to this share, such as 0.15) moves states little; 0: off"},
    )
    manifests: list[Path] = field(default_factory=list, metadata={"help": "cuts to fit on: files cuts_*.jsonl.gz"})
    audio: list[Path] = field(default_factory=list, metadata={"help": "audio files or folders of them to fit on, instead"})
    hours: float = field(default=5.0, metadata={"help": "hours of the manifests' audio at most, of all speakers"})
    seed: int = field(default=42, metadata={"help": "seed for the choice of cuts, the sample and k-means"})
    output_dir: Path = field(metadata={"help": "folder for the tokenizer"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or mps, for an encoder"})

    def __post_init__(self) -> None:
        if bool(self.manifests) == bool(self.audio):
            raise FitError(f"expected --manifests or --audio to fit on, found {'both' if self.audio else 'neither'}; give one of them")
        if self.num_units < 2 or not self.hours > 0:
            raise FitError(f"expected 2 or more units and hours above 0, found --num-units {self.num_units} and --hours {self.hours:g}")
        if self.frames_per_unit < 0:
            raise FitError(f"--frames-per-unit must be 0 or more, found {self.frames_per_unit}")
        if self.voice_change and (self.encoder == "mfcc" or self.is_released or self.layer == 0):
            raise FitError(
                "--voice-change is for layers of encoders that were trained here, found another --encoder; leave one of them out"
            )
        if not 0 <= self.voice_change <= 0.5:
            raise FitError(f"--voice-change must lie within 0..0.5, found {self.voice_change:g}")
        if self.encoder != "mfcc" and self.layer < (1 if self.is_released else 0):
            raise FitError(NO_LAYER.format(self.encoder))

    @property
    def is_released(self) -> bool:
        return self.encoder.partition("=")[0] in ENCODERS


def fit_tokenizer(
    config: FitConfig, *, processes: Processes = ALONE, device: torch.device | None = None, progress: Progress | None = None
) -> TokenizerIdentity:
    """Fit and leave the tokenizer in ``output_dir``; each of several processes hears a share of the audio."""
    outputs = claim_outputs(config.output_dir, [WEIGHTS_FILE, CONFIG_FILE], program="fit", inputs=[*config.manifests, *config.audio])
    tokenizer: MfccKMeans | ClusteredUnits
    if config.encoder == "mfcc":
        frames = config.frames_per_unit or 2
        usual = MfccConfig(num_units=config.num_units, hop_length=320 * frames, frames_per_unit=2 * frames)
        settings = replace(usual, name=config.name or usual.name)
        audio = _audio(config, settings.sample_rate, processes, progress)
        tokenizer = fit_mfcc_kmeans(audio, settings, seed=config.seed, standardise=config.standardise, processes=processes)
    elif config.layer == 0:
        tokenizer = _codes(config, processes, device, progress)
    else:
        tokenizer = _unfitted(config)
        audio = _audio(config, tokenizer.sample_rate, processes, progress)
        if config.voice_change and isinstance(tokenizer, HubertTokenizer):
            if processes.size > 1:
                raise FitError(f"--voice-change is for one process, found {processes.size}; leave one of them out")
            fit_voice_whitened(tokenizer, audio, voice_change=config.voice_change, seed=config.seed, device=device)
        else:
            fit_units(tokenizer, audio, seed=config.seed, device=device, standardise=config.standardise, processes=processes)
    if processes.rank == 0:
        with outputs.being_written():
            save_tokenizer(tokenizer, config.output_dir)
    processes.gather(None)
    return tokenizer.identity


def _unfitted(config: FitConfig) -> ClusteredUnits:
    if config.is_released:
        return load_unfitted(
            config.encoder, layer=config.layer, num_units=config.num_units, frames_per_unit=config.frames_per_unit or 1, label=config.name
        )
    name = config.name or f"{Path(config.encoder).name}-layer{config.layer}-{config.num_units}"
    units = HubertConfig(
        name=name, num_units=config.num_units, frames_per_unit=config.frames_per_unit or 1, voice_whitened=config.voice_change > 0
    )
    return hubert_from_encoder(_own_encoder(config), units, layer=config.layer)


def _codes(config: FitConfig, processes: Processes, device: torch.device | None, progress: Progress | None) -> CodeUnits:
    """Units that are a quantizer's own codes."""
    encoder = _own_encoder(config)
    if encoder.bottleneck is None:
        raise FitError(NO_LAYER.format(config.encoder))
    settings = CodeUnitsConfig(
        name=config.name or f"{Path(config.encoder).name}-codes", num_units=config.num_units,
        frames_per_unit=config.frames_per_unit or 1, encoder=encoder.config,
    )  # fmt: skip
    audio = _audio(config, encoder.config.sample_rate, processes, progress)
    return fit_codes(encoder, audio, settings, seed=config.seed, device=device, processes=processes)


def _own_encoder(config: FitConfig) -> SpeechEncoder:
    """Of a run, or of units that came of one, which hold it up to their layer."""
    is_saved = all((Path(config.encoder) / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))
    if is_saved or config.encoder in BUNDLED:
        tokenizer = load_tokenizer(config.encoder)
        if not isinstance(tokenizer, HubertTokenizer):
            raise FitError(
                f"expected units of an encoder that was trained here after --encoder, found {tokenizer.name}; try {BUNDLED_SEMANTIC}"
            )
        return tokenizer.encoder
    if not Path(config.encoder).is_dir():
        raise FitError(
            "expected mfcc, the exp-dir of a run of trainer_speech_encoder.py or a released encoder's name as --encoder, "
            f"found {config.encoder!r}; names are {', '.join(ENCODERS)}"
        )
    return load_encoder(Path(config.encoder))


def _audio(config: FitConfig, sample_rate: int, processes: Processes, progress: Progress | None) -> Iterator[Waveform]:
    """Waveforms of this process's share."""
    if config.manifests:
        yield from training_audio(
            config.manifests, sample_rate=sample_rate, hours=config.hours, seed=config.seed, processes=processes, progress=progress
        )
        return
    files = find_audio(config.audio).files[processes.rank :: processes.size]
    for number, file in enumerate(files):
        try:
            yield from audio_pieces(file.path, sample_rate=sample_rate)
        except AudioFileError as error:
            if file.is_given:
                raise
            logging.warning("left out: %s: %s", shown(file.path), error)
        if progress:
            progress(number + 1, len(files))
