"""A codec beside its losses and its adversaries: the module that the loop wraps and calls."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from valle.errors import UserError
from valle.measures.disturbance import RATE as PESQ_RATE
from valle.measures.disturbance import Disturbance
from valle.measures.intelligibility import Intelligibility
from valle.measures.mel import MEL_SCALES, MultiScaleMel
from valle.measures.soundstream_spectra import SoundStreamSpectra
from valle.measures.tokens import perplexity
from valle.models.loss import LossTerm
from valle.modules.discriminators import Judgement, build_discriminators
from valle.modules.rvq import Quantized
from valle.tokenizers.convnext_codec import ConvNeXtCodec
from valle.tokenizers.residual_codec import ResidualCodec
from valle.training.codec_losses import Balancer, adversarial_loss, discriminator_hits, discriminator_loss, feature_loss
from valle.training.codec_options import CodecOptions

NOISY_SHARE, DENOISED_SHARE = 0.5, 0.5  # of the pieces that get noise; of all that are asked to come out without


class TrainedCodec(nn.Module):
    """Called with pieces ``(B, T)``, or ``(B, 2, T)`` with noise beside each, gives the parts ``codec`` and ``discriminator``.

    One call a step serves both sides: the discriminators judge the output cut off from the codec, and the codec is
    judged by copies of the discriminators' parameters, so that neither side's loss has a gradient in the other.
    """

    def __init__(self, codec: ResidualCodec, options: CodecOptions) -> None:
        super().__init__()
        self.codec, self.options = codec, options
        self.mel = MultiScaleMel(codec.sample_rate)
        self.published = SoundStreamSpectra(codec.sample_rate) if options.reconstruction == "soundstream" else None
        self.discriminators: nn.Module | None = None
        if options.is_adversarial:
            self.discriminators = build_discriminators(
                options.adversarial, channels=options.adversarial_channels,
                windows=options.adversarial_windows, periods=options.adversarial_periods,
            )  # fmt: skip
        weights = {"mel": options.mel_weight, "time": options.time_weight}
        chosen = {"band": options.band_weight, "stoi": options.stoi_weight, "pesq": options.pesq_weight}
        weights.update({name: weight for name, weight in chosen.items() if weight})
        self.intelligibility = Intelligibility(codec.sample_rate) if options.stoi_weight else None
        self.disturbance = _disturbance(codec) if options.pesq_weight else None
        if options.consistency_weight and not isinstance(codec, ConvNeXtCodec):
            raise UserError(f"--consistency-weight is for ConvNeXt codecs, which write spectra, found {codec.name}; leave it out")
        if options.is_adversarial:
            weights.update(adversarial=options.adversarial_weight, feature=options.feature_weight)
        self.weights = weights
        self.balancer = Balancer(weights) if options.balancer else None
        self.revive = False
        self.is_judged = options.adversarial_start_step == 0  # whether discriminators have come in
        self.observed: dict[str, Tensor] = {}  # of the last step, for the log

    def forward(self, batch: Tensor) -> dict[str, LossTerm]:
        wav, target, denoise = self._task_of(batch)
        quantized, frames = self.codec.quantize(wav, revive=self.revive, denoise=denoise)
        output, inconsistency = self._synthesised(quantized.vectors, frames)
        with torch.autocast(wav.device.type, enabled=False):
            losses = self._likeness(output, target)
        if not self.training:
            return {"codec": _part(sum(losses[name] * self.weights[name] for name in losses))}  # type: ignore[arg-type]
        parts: dict[str, LossTerm] = {}
        if self.discriminators is not None and self.is_judged:
            judged, parts["discriminator"] = self._judged(output, target)
            losses.update(judged)
        elif self.discriminators is not None:
            parts["discriminator"] = self._idle(len(wav))
        self.observed = {name: loss.detach().mean() for name, loss in losses.items()} | {"commitment": quantized.commitment.detach()}
        total = self._weighted(losses, output, quantized)
        if inconsistency is not None:
            self.observed["inconsistency"] = inconsistency.detach().mean()
            total = total + self.options.consistency_weight * inconsistency
        return {"codec": _part(total), **parts}

    def _synthesised(self, vectors: Tensor, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Sound ``(B, T)`` and, where that is a loss, how inconsistent the spectra are that the decoder wrote, ``(B,)``."""
        if not (self.training and self.options.consistency_weight and isinstance(self.codec, ConvNeXtCodec)):
            return self.codec.synthesise(vectors, frames), None
        spectra = self.codec.spectra(vectors, frames)
        return self.codec.sound_of(spectra, frames), self.codec.inconsistency(spectra)

    def _task_of(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What goes in, what shall come out, and whether noise shall go (SoundStream III-F), drawn for each example."""
        if batch.ndim == 2:
            return batch, batch, None
        clean, noise = batch[:, 0], batch[:, 1]
        if not self.training:
            return clean, clean, None
        size, device = len(clean), batch.device
        quiet, loud = self.options.noise_db
        gain_db = quiet + (loud - quiet) * torch.rand(size, 1, device=device)
        level = clean.square().mean(1, keepdim=True) / noise.square().mean(1, keepdim=True).clamp(min=1e-8)
        is_noisy = torch.rand(size, 1, device=device) < NOISY_SHARE
        noisy = torch.where(is_noisy, clean + noise * (level * 10 ** (gain_db / 10)).sqrt(), clean)
        fits = 1 / noisy.abs().amax(1, keepdim=True).clamp(min=1)
        clean, noisy = clean * fits, noisy * fits
        if not self.options.denoise:
            return noisy, noisy, None
        denoise = torch.rand(size, device=device) < DENOISED_SHARE
        return noisy, torch.where(denoise[:, None], clean, noisy), denoise

    def _likeness(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """How far ``output`` is from ``target (B, T)``, by name, ``(B,)`` each; on dev always the same measures."""
        windows = random_windows() if self.training else tuple(MEL_SCALES)
        losses = {"time": (output - target).abs().mean(1)}
        if self.training and "band" in self.weights:
            losses["mel"], losses["band"] = self.mel.each_and_shares(output, target, windows=windows)
        else:
            losses["mel"] = self.mel.each(output, target, windows=windows)
        if self.training and self.published is not None:
            losses["mel"] = self.published.each(output, target)
        if self.training and self.intelligibility is not None:
            losses["stoi"] = 1 - self.intelligibility(output, target)
        if self.training and self.disturbance is not None:
            losses["pesq"] = self.disturbance(output, target)
        return losses

    def _judged(self, output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], LossTerm]:
        """The codec's losses by the discriminators' verdict, and the discriminators' own part."""
        assert self.discriminators is not None
        start, length = self._judged_span(output.shape[1])
        real_wav, fake_wav = target[:, start : start + length], output[:, start : start + length]
        size = len(real_wav)
        both = self.discriminators(torch.cat([real_wav, fake_wav.detach()]))
        real, fake = _rows(both, slice(size)), _rows(both, slice(size, None))
        copies = {name: parameter.detach() for name, parameter in self.discriminators.named_parameters()}
        verdict: list[Judgement] = functional_call(self.discriminators, copies, (fake_wav,))
        losses = {"adversarial": adversarial_loss(verdict), "feature": feature_loss(real, verdict)}
        return losses, _part(discriminator_loss(real, fake), hits=discriminator_hits(real, fake))

    def _judged_span(self, num_samples: int) -> tuple[int, int]:
        """Start and length of what the discriminators see, the same for all examples of a step."""
        length = min(num_samples, round(self.options.adversarial_seconds * self.codec.sample_rate) or num_samples)
        return int(torch.randint(num_samples - length + 1, ())), length

    def _idle(self, size: int) -> LossTerm:
        """Nothing, but of every parameter, as DDP waits for the gradient of each."""
        assert self.discriminators is not None
        zero = torch.stack([parameter.sum() for parameter in self.discriminators.parameters()]).sum() * 0
        return _part(zero.expand(size))

    def _weighted(self, losses: Mapping[str, Tensor], output: Tensor, quantized: Quantized) -> Tensor:
        """``(B,)``: all losses of the codec together."""
        if self.balancer is not None:
            total = self.balancer(losses, output)
        else:
            total = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum(0)
        return total if self.options.freeze_encoder else total + self.options.commitment * quantized.commitment

    def report(self) -> dict[str, float]:
        """Losses of the last step, unweighted, and the perplexity of every codebook."""
        report = {name: float(value) for name, value in self.observed.items()}
        for level, book in enumerate(self.codec.quantizer.codebooks):
            report[f"perplexity_{level}"] = perplexity(book.count.double().cpu().numpy())  # the running counts of all ranks
        return report


def _part(losses: Tensor, *, hits: Tensor | None = None) -> LossTerm:
    count = torch.tensor(len(losses), device=losses.device)
    return LossTerm(losses.sum(), count, torch.zeros_like(count) if hits is None else hits.sum())


def _rows(judgements: list[Judgement], rows: slice) -> list[Judgement]:
    return [Judgement(logits[rows], [feature[rows] for feature in features]) for logits, features in judgements]


def _disturbance(codec: ResidualCodec) -> Disturbance:
    if codec.sample_rate != PESQ_RATE:
        raise UserError(f"--pesq-weight is for codecs at {PESQ_RATE} Hz, found {codec.sample_rate} Hz; leave it out")
    return Disturbance()


def random_windows() -> tuple[int, int]:
    """One of the three short mel windows and one of the three long ones: the mean of all, at a third of the cost."""
    sizes = tuple(MEL_SCALES)
    short, long = torch.randint(3, (2,)).tolist()
    return sizes[short], sizes[3 + long]
