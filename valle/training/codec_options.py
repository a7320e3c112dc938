"""Every setting of a codec's training."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from valle.errors import UserError
from valle.modules.discriminators import GROUPS, KINDS, kinds_of
from valle.settings import require_at_least, setting
from valle.training.options import AudioOptions

GAN_BETAS = (0.8, 0.99)  # of both sides where there is an adversary, as in HiFi-GAN
SHORTEST_STOI_PIECE = 0.42  # seconds: STOI's segments of 384 ms, and a window


@dataclass(frozen=True)
class CodecOptions(AudioOptions):
    """A run that trains a codec; ``manifests`` and ``shares`` go together."""

    shares: list[float] = setting([], "share of the pieces that each manifest gives; equal if not given")
    valid_manifest: Path | None = setting(None, "manifest of cuts to validate on; the first of --manifests if not given")
    init_codec: str | None = setting(None, "name or folder of a codec to go on from; its design and sizes are kept")
    init_blocks: str | None = setting(None, "name or folder of a codec of other sizes; what fits of its weights begins the new one")
    segment_seconds: float = setting(1.0, "length of a piece")

    codec: Literal["convnext", "soundstream"] = setting("convnext", "design: ConvNeXt and inverse STFT (fast on CPUs), or SEANet (causal)")
    sample_rate: int = setting(16000, "of the codec, Hz")
    dim: int = setting(256, "width of the ConvNeXt blocks, or of SoundStream's vectors")
    num_blocks: int = setting(6, "ConvNeXt: blocks in the encoder, and in the decoder")
    stft_frames: int = setting(1, "ConvNeXt: spectra in a code frame")
    n_fft: int = setting(1280, "ConvNeXt: samples in the window of a spectrum")
    refine_blocks: int = setting(0, "ConvNeXt: blocks behind the decoder that hear its sound and correct its spectra; 0 for none")
    strides: list[int] = setting([2, 4, 5, 8], "SoundStream: strides of the encoder; samples a frame are their product")
    channels: int = setting(32, "SoundStream: channels at the sample rate; each stride doubles them")
    num_quantizers: int = setting(8, "codebooks")
    codebook_size: int = setting(256, "codes in a codebook")
    quantizer_dropout: float = setting(
        1.0, "share of the examples that use a random number of codebooks, 1 to all; published: 1, all examples"
    )  # fmt: skip
    freeze_encoder: bool = setting(False, "leave encoder and codebooks as they are, so that codes keep their meaning")
    denoise: bool = setting(False, "SoundStream: learn to leave noise out where asked to; needs --noise-manifests")
    noise_manifests: list[Path] = setting([], "manifests of cuts of noise, mixed into half of the pieces")
    noise_db: list[float] = setting([-30.0, 0.0], "quietest and loudest noise beside the speech, dB")

    reconstruction: Literal["mel", "soundstream"] = setting(
        "mel", "what --mel-weight weighs: L1 of log-mels, or SoundStream's published loss, of amplitudes and of logs (with --time-weight 0)"
    )  # fmt: skip
    mel_weight: float = setting(1.0, "weight of the mel distance at several resolutions")
    band_weight: float = setting(0.0, "weight of the mel amplitudes' distance, each band as a share of its mean; 2 raises STOI")
    time_weight: float = setting(1.0, "weight of the samples' L1")
    stoi_weight: float = setting(0.0, "weight of 1 - STOI, of pieces of 0.4 s or more")
    pesq_weight: float = setting(0.0, "weight of the disturbance by PESQ's perceptual model, at 16 kHz")
    consistency_weight: float = setting(0.0, "ConvNeXt: weight of how far the decoder's spectra are from those of any sound")
    commitment: float = setting(0.25, "weight of the commitment loss")
    adversarial: str = setting(
        "none", "who tells real from coded: none, soundstream (stft+waves), stft, waves, msstft, mpd, or several with + between"
    )
    adversarial_start_step: int = setting(0, "step after which discriminators come in")
    adversarial_weight: float = setting(0.2, "weight of the hinge loss of the codec")
    feature_weight: float = setting(1.0, "weight of the feature matching")
    # What discriminators cost: the defaults make a step on a CPU about twice as long.
    adversarial_channels: int = setting(8, "channels of the discriminators' first layers; 0 as published (32, waves 16)")
    adversarial_windows: list[int] = setting([1024, 512, 256], "windows of msstft, samples; published: 2048 1024 512 256 128")
    adversarial_periods: list[int] = setting([2, 3, 5], "periods of mpd, samples; published: 2 3 5 7 11")
    adversarial_seconds: float = setting(0.5, "length of the part of each piece that discriminators see; 0 for all")
    discriminator_lr: float = setting(0.0, "highest learning rate of the discriminators; 0 for --base-lr")
    balancer: bool = setting(False, "let weights be shares of the gradient at the output, as in EnCodec")
    export: Literal["auto", "best", "last", "averaged"] = setting(
        "auto", "weights to leave in exp_dir/codec: scored best on the dev set, last, or averaged; auto is best, with an adversary last"
    )
    export_avg: int = setting(1, "--export averaged: over the steps since as many epochs ago")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shares and len(self.shares) != len(self.manifests):
            raise UserError(
                f"expected a share for each of {len(self.manifests)} manifests, found {len(self.shares)}; give as many --shares"
            )
        if self.shares and not (min(self.shares) >= 0 < sum(self.shares) < inf):
            raise UserError(f"expected --shares of 0 or more, some above it, found {', '.join(f'{share:g}' for share in self.shares)}")
        require_at_least(
            self, 1, "sample_rate", "dim", "num_blocks", "stft_frames", "n_fft", "channels", "num_quantizers", "codebook_size",
            "export_avg",
        )  # fmt: skip
        require_at_least(
            self, 0, "mel_weight", "band_weight", "time_weight", "stoi_weight", "pesq_weight", "consistency_weight", "commitment",
            "adversarial_weight", "feature_weight", "discriminator_lr", "adversarial_start_step", "adversarial_channels",
            "adversarial_seconds", "refine_blocks",
        )  # fmt: skip
        if not 0 <= self.quantizer_dropout <= 1:
            raise UserError(f"--quantizer-dropout must lie in 0..1, found {self.quantizer_dropout:g}")
        if not 0.1 <= self.segment_seconds <= 60:
            raise UserError(f"--segment-seconds must lie in 0.1..60, found {self.segment_seconds:g}")
        if self.init_codec is not None and self.init_blocks is not None:
            raise UserError(
                "expected --init-codec to go on from a codec, or --init-blocks to begin another with it, found both; leave one out"
            )
        self._check_kinds()
        self._check_noise()
        self._check_design()

    def _check_kinds(self) -> None:
        if not self.is_adversarial:
            return
        try:
            kinds_of(self.adversarial)
        except ValueError:
            names = ", ".join(("none", *GROUPS, *KINDS))
            raise UserError(f"--adversarial must be {names}, or several with + between, each once; found {self.adversarial!r}") from None
        smallest = [*self.adversarial_windows, *self.adversarial_periods]
        if any(value < 2 for value in smallest) or any(window % 4 for window in self.adversarial_windows):
            raise UserError(
                "--adversarial-windows must be multiples of 4 and --adversarial-periods 2 or more, found "
                f"{' '.join(map(str, smallest))}; leave them out for those published"
            )

    def _check_design(self) -> None:
        if self.codec == "soundstream" and self.init_codec is None and (self.refine_blocks or self.consistency_weight):
            flag = "--refine-blocks" if self.refine_blocks else "--consistency-weight"
            raise UserError(f"{flag} is for --codec convnext, which writes spectra, found soundstream; leave one of them out")
        if self.stoi_weight and self.segment_seconds < SHORTEST_STOI_PIECE:
            raise UserError(
                f"--stoi-weight needs pieces of {SHORTEST_STOI_PIECE:g} s or more, found --segment-seconds {self.segment_seconds:g}; "
                "lengthen them, or leave it out"
            )

    def _check_noise(self) -> None:
        if self.denoise and self.codec != "soundstream" and self.init_codec is None:
            raise UserError("--denoise true is for --codec soundstream, found convnext; choose one of the two")
        if self.denoise and not self.noise_manifests:
            raise UserError("--denoise true needs noise to learn from, found none; give --noise-manifests")
        if len(self.noise_db) != 2 or self.noise_db[0] > self.noise_db[1]:
            raise UserError(f"--noise-db must be the quietest and the loudest, such as -30 0, found {' '.join(map(str, self.noise_db))}")

    @property
    def is_adversarial(self) -> bool:
        return self.adversarial != "none"

    @property
    def separates_parts(self) -> bool:
        return self.is_adversarial

    @property
    def adam_betas(self) -> tuple[float, float]:
        return GAN_BETAS if self.is_adversarial else super().adam_betas

    def rate_of_part(self, part: str, step: int) -> float:
        """Discriminators have their own rate, which rises from when they come in."""
        if part != "discriminator":
            return 1.0
        own = self.discriminator_lr / self.base_lr if self.discriminator_lr else 1.0
        since = step - self.adversarial_start_step
        return own * min(1.0, max(0, since) / max(1, self.warmup_steps)) if self.adversarial_start_step else own
