"""Units out of a trained speech encoder: its checkpoint, and clusters of one of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from valle.audio import Waveform
from valle.models.checkpoint import CheckpointError, choose_checkpoint
from valle.modules.product_quantizer import QuantizerConfig
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.clustered_units import ClusteredUnits
from valle.tokenizers.code_units import CodeUnits, CodeUnitsConfig, codes_from_encoder, with_codes_in_use
from valle.tokenizers.hubert import HubertConfig, HubertTokenizer, hubert_from_encoder
from valle.tokenizers.kmeans_fit import ALONE, Frames, Processes, Reservoir, fit_features, sample_frames
from valle.tokenizers.mfcc import MfccKMeans
from valle.tokenizers.speech_encoder import SpeechEncoder, SpeechEncoderConfig

Progress = Callable[[float], None]  # seconds of audio, one call a batch

BATCH_SECONDS = 60.0
LEAST_DEVIATION = 0.1  # of features that the corpus's deviation has scaled to about one: a silent cut stays small

Clustered = TypeVar("Clustered", MfccKMeans, HubertTokenizer)


def load_encoder(exp_dir: Path, *, epoch: int = 0, avg: int = 1) -> SpeechEncoder:
    """The encoder of a run of ``bin/trainer_speech_encoder.py``; ``epoch`` 0 takes the best on dev."""
    state = choose_checkpoint(exp_dir, epoch=epoch, avg=avg)
    if "encoder" not in state:
        raise CheckpointError(f"expected a speech encoder's run in {exp_dir}, found another model's; name one of trainer_speech_encoder.py")
    encoder = SpeechEncoder(replace(SpeechEncoderConfig(**state["encoder"]), bottleneck=bottleneck_of(state)))
    weights = {name.removeprefix("encoder."): tensor for name, tensor in state["model"].items() if name.startswith("encoder.")}
    if encoder.bottleneck is not None:
        own = {f"bottleneck.{name}": state["model"].get(name) for name in encoder.bottleneck.state_dict()}
        weights |= {name: tensor for name, tensor in own.items() if tensor is not None}
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {exp_dir} do not fit their own settings: {' '.join(str(error).split())[:200]}") from error
    return encoder.eval().requires_grad_(False)


def bottleneck_of(state: Mapping[str, Any]) -> QuantizerConfig | None:
    """The quantizer that the encoder of a checkpoint was trained behind: vq-wav2vec's; the others only quantize what they predict."""
    if state.get("objective") != "vq-wav2vec":
        return None
    return QuantizerConfig(
        kind=state["quantizer"], groups=state["quantizer_groups"], size=state["quantizer_codes"], out_dim=state["code_dim"]
    )


def fit_codes(
    encoder: SpeechEncoder,
    waveforms: Iterable[Waveform],
    config: CodeUnitsConfig,
    *,
    seed: int,
    device: torch.device | None = None,
    processes: Processes = ALONE,
) -> CodeUnits:
    """Units that are the codes of the encoder's quantizer: the combinations most in use over ``waveforms``, at most ``num_units``."""
    tokenizer = codes_from_encoder(encoder, config).to(device or torch.device("cpu"))
    frames = processes.broadcast(sample_frames(hidden_of(tokenizer, waveforms), seed=seed, processes=processes))
    return with_codes_in_use(tokenizer.cpu(), frames)


def fit_hubert(
    encoder: SpeechEncoder,
    waveforms: Iterable[Waveform],
    config: HubertConfig,
    *,
    layer: int,
    seed: int,
    device: torch.device | None = None,
    standardise: bool = True,
    processes: Processes = ALONE,
) -> HubertTokenizer:
    """K-means on a uniform sample of the states of ``layer`` over ``waveforms``, each ``(T,)`` at 16 kHz.

    Each of several ``processes`` gives a share of the waveforms, and all return the same tokenizer.
    """
    tokenizer = hubert_from_encoder(encoder, config, layer=layer)
    fit_units(tokenizer, waveforms, seed=seed, device=device, standardise=standardise, processes=processes)
    return tokenizer


def fit_units(
    tokenizer: ClusteredUnits,
    waveforms: Iterable[Waveform],
    *,
    seed: int,
    device: torch.device | None = None,
    standardise: bool = True,
    processes: Processes = ALONE,
) -> None:
    """The same for any encoder's units, ``waveforms`` at the tokenizer's own rate; leaves the tokenizer on the CPU."""
    tokenizer.to(device or torch.device("cpu"))
    fit = fit_features(
        hidden_of(tokenizer, waveforms), tokenizer.num_units, seed=seed, seconds_per_frame=tokenizer.hop_length / tokenizer.sample_rate,
        standardise=standardise, processes=processes,
    )  # fmt: skip
    tokenizer.cpu().take_clusters(fit)


def fit_per_cut(tokenizer: Clustered, waveforms: Iterable[Waveform], *, seed: int) -> Clustered:
    """K-means on features standardised within each waveform; the centroids only mean something to :func:`per_cut_units_of`.

    What a cut's mean holds is its speaker more than its phones (van Niekerk et al. 2021), so targets say less about the voice.
    """
    seconds = tokenizer.hop_length / tokenizer.sample_rate
    fit = fit_features(_per_cut(tokenizer, waveforms), tokenizer.num_units, seed=seed, seconds_per_frame=seconds, standardise=False)
    tokenizer.cpu().centroids.copy_(torch.from_numpy(fit.centroids))
    return tokenizer


def per_cut_units_of(tokenizer: SemanticTokenizer, waveforms: Iterable[Waveform]) -> Iterator[torch.Tensor]:
    """Nearest centroids ``(T_u,)`` of each waveform's features, standardised by its own mean and deviation."""
    assert isinstance(tokenizer, MfccKMeans | ClusteredUnits)  # all that there are
    centroids = tokenizer.centroids.cpu()
    for features in _per_cut(tokenizer, waveforms):
        yield (centroids.square().sum(1) - 2 * torch.from_numpy(features) @ centroids.T).argmin(-1)


def sample_layers(
    tokenizers: Sequence[ClusteredUnits], waveforms: Iterable[Waveform], *, seed: int, size: int, progress: Progress | None = None
) -> list[Frames]:
    """A uniform sample of the states of every tokenizer's own layer, in one pass over the audio."""
    reservoirs = [Reservoir(len(tokenizer.mean), seed=seed, size=size) for tokenizer in tokenizers]
    for batch in batches(waveforms, tokenizers[0].sample_rate):
        for tokenizer, reservoir in zip(tokenizers, reservoirs, strict=True):
            for states in _hidden(tokenizer, batch):
                reservoir.add(states)
        if progress is not None:
            progress(sum(len(wav) for wav in batch) / tokenizers[0].sample_rate)
    return [reservoir.frames for reservoir in reservoirs]


def hidden_of(tokenizer: ClusteredUnits, waveforms: Iterable[Waveform]) -> Iterator[Frames]:
    """States ``(T_u, D)`` of each waveform, batch by batch."""
    for batch in batches(waveforms, tokenizer.sample_rate):
        yield from _hidden(tokenizer, batch)


def units_of(tokenizer: SemanticTokenizer, waveforms: Iterable[Waveform]) -> Iterator[torch.Tensor]:
    """Units ``(T_u,)`` of each waveform, in order, on the CPU."""
    device = next(tokenizer.buffers()).device
    for batch in batches(waveforms, tokenizer.sample_rate):
        wav, lengths = pad(batch)
        units, counts = tokenizer.encode(wav.to(device), lengths.to(device))
        yield from (row[:count].cpu() for row, count in zip(units, counts.tolist(), strict=True))


def batches(waveforms: Iterable[Waveform], sample_rate: int) -> Iterator[list[Waveform]]:
    """Consecutive waveforms, as many as fit ``BATCH_SECONDS`` with their padding."""
    batch: list[Waveform] = []
    longest = 0
    for wav in waveforms:
        longest = max(longest, len(wav))
        if batch and (len(batch) + 1) * longest > BATCH_SECONDS * sample_rate:
            yield batch
            batch, longest = [], len(wav)
        batch.append(wav)
    if batch:
        yield batch


def pad(batch: Sequence[Waveform]) -> tuple[torch.Tensor, torch.Tensor]:
    """``wav (B, T)``, ``lengths (B,)``."""
    lengths = torch.tensor([len(wav) for wav in batch])
    padded = torch.zeros(len(batch), int(lengths.max()))
    for row, wav in zip(padded, batch, strict=True):
        row[: len(wav)] = torch.from_numpy(wav)
    return padded, lengths


def _per_cut(tokenizer: MfccKMeans | ClusteredUnits, waveforms: Iterable[Waveform]) -> Iterator[Frames]:
    device = tokenizer.mean.device
    for batch in batches(waveforms, tokenizer.sample_rate):
        wav, lengths = pad(batch)
        for row, wave in zip(tokenizer.features(wav.to(device), lengths.to(device)).cpu(), batch, strict=True):
            own = row[: tokenizer.num_tokens(len(wave))]
            yield ((own - own.mean(0)) / (own.std(0, correction=0) + LEAST_DEVIATION)).numpy()


def _hidden(tokenizer: ClusteredUnits, batch: Sequence[Waveform]) -> Iterator[Frames]:
    device = tokenizer.mean.device
    wav, lengths = pad(batch)
    states = tokenizer.hidden(wav.to(device), lengths.to(device)).cpu()
    for row, wave in zip(states, batch, strict=True):
        yield row[: tokenizer.num_tokens(len(wave))].numpy()
