"""SEANet's encoder and decoder with causal convolutions (SoundStream, Zeghidour et al. 2021, III-A, III-B and III-F).

A network is a chain of layers, each of which needs a fixed number of inputs from before: zeros at the start of a
sound, and in a stream what came last.  So a batch and a stream run the same code.

Channels lie last, ``(B, T, C)``, and convolutions are those of a picture one row high: with few channels, as near the samples,
oneDNN takes a half to a third of the time that it takes for ``conv1d``, on CPUs with and without bfloat16.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DILATIONS = (1, 3, 9)


@dataclass(frozen=True)
class StreamState:
    """Where a stream stands: for each layer of a chain, in order, the inputs ``(B, n, C)`` that it still needs."""

    pasts: tuple[Tensor, ...]


class Layer(nn.Module, ABC):
    """One link of a chain; ``past_size`` inputs of ``past_channels`` from before go with every call."""

    past_channels: int
    past_size: int

    @abstractmethod
    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """``x (B, T, C)``, ``past (B, past_size, C)`` -> output ``(B, T', C')`` and the next call's past."""

    @abstractmethod
    def earliest(self, index: int) -> int:
        """The first input on which output ``index`` depends; counted from where the past ends, so it may be negative."""

    @abstractmethod
    def latest(self, index: int) -> int:
        """The last input on which output ``index`` depends."""


class CausalConv(Layer):
    """A convolution that sees nothing to come: output i reads up to input ``(i + 1) * stride - 1``.

    With a stride, whole strides of inputs are taken as one input of more channels: the same products, without a stride.
    oneDNN gets strides of 4 between 16 channels wrong in bfloat16 on processors with AMX (torch 2.13).
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, is_first: bool = False) -> None:
        super().__init__()
        assert stride == 1 or (dilation == 1 and kernel_size % stride == 0)
        self.stride, self.is_first = stride, is_first
        self.conv = nn.Conv1d(inputs, outputs, kernel_size, stride=stride, dilation=dilation)
        nn.init.normal_(self.conv.weight, std=(inputs * kernel_size) ** -0.5)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.past_channels, self.past_size = inputs, (kernel_size - 1) * dilation + 1 - stride

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        heard = torch.cat([past, x if self.is_first else F.elu(x)], 1)
        past = heard[:, heard.shape[1] - self.past_size :]
        weight = self.conv.weight  # (C', C, K)
        if self.stride > 1:
            heard = heard.unflatten(1, (-1, self.stride)).flatten(2)  # (B, T / stride, stride * C)
            weight = weight.unflatten(2, (-1, self.stride)).permute(0, 3, 1, 2).flatten(1, 2)  # (C', stride * C, K / stride)
        return _sequence(F.conv2d(_picture(heard), _filters(weight), self.conv.bias, dilation=(1, *self.conv.dilation))), past

    def earliest(self, index: int) -> int:
        return index * self.stride - self.past_size

    def latest(self, index: int) -> int:
        return (index + 1) * self.stride - 1


class ResidualUnit(Layer):
    """A dilated convolution of width 7 and one of width 1, around which the input goes on."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.dilated = CausalConv(dim, dim, 7, dilation=dilation)
        self.pointwise = nn.Conv1d(dim, dim, 1)
        nn.init.normal_(self.pointwise.weight, std=0.3 * dim**-0.5)  # units add up: each adds little at first
        nn.init.zeros_(self.pointwise.bias)  # type: ignore[arg-type]
        self.past_channels, self.past_size = dim, self.dilated.past_size

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        hidden, past = self.dilated(x, past)
        return x + F.linear(F.elu(hidden), self.pointwise.weight[..., 0], self.pointwise.bias), past

    def earliest(self, index: int) -> int:
        return self.dilated.earliest(index)

    def latest(self, index: int) -> int:
        return index


class CausalUpsample(Layer):
    """A transposed convolution of two strides' width: output i depends on input ``i // stride`` and the one before.

    Computed as its like without a stride, a stride of outputs at a time, since its gradient is a convolution with a stride.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride)
        nn.init.normal_(self.conv.weight, std=(2 * inputs) ** -0.5)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.past_channels, self.past_size = inputs, 1

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        heard = torch.cat([past, F.elu(x)], 1)
        weight = self.conv.weight.unflatten(2, (2, self.stride)).flip(2)  # (C, C', of the input before and of the input, stride)
        weight = weight.permute(3, 1, 0, 2).flatten(0, 1)  # (stride * C', C, 2)
        bias = self.conv.bias.repeat(self.stride)  # type: ignore[union-attr]
        out = _sequence(F.conv2d(_picture(heard), _filters(weight), bias))
        return out.unflatten(2, (self.stride, -1)).flatten(1, 2), heard[:, -1:]

    def earliest(self, index: int) -> int:
        return index // self.stride - 1

    def latest(self, index: int) -> int:
        return index // self.stride


class CausalChain(nn.Module):
    """Layers one after another, on a whole sound or on pieces of a stream."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers: Sequence[Layer] = nn.ModuleList(layers)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """``x (B, T, C)`` from the start of a sound -> ``(B, T', C')``."""
        return self.step(x, self.start(x))[0]

    def start(self, like: Tensor) -> StreamState:
        """The state before a sound: zeros for the rows, and of the kind, of ``like (B, ...)``."""
        return StreamState(tuple(like.new_zeros(len(like), layer.past_size, layer.past_channels) for layer in self.layers))

    def step(self, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """The next piece of a stream: whole frames of an encoder's samples, or any number of a decoder's frames."""
        pasts = []
        for layer, past in zip(self.layers, state.pasts, strict=True):
            x, past = layer(x, past.to(x.dtype))
            pasts.append(past)
        return x, StreamState(tuple(pasts))

    def earliest(self, index: int) -> int:
        """The first input on which output ``index`` depends (negative: before the sound's start, where there are zeros)."""
        for layer in reversed(self.layers):
            index = layer.earliest(index)
        return index

    def latest(self, index: int) -> int:
        """The last input on which output ``index`` depends."""
        for layer in reversed(self.layers):
            index = layer.latest(index)
        return index


def _picture(x: Tensor) -> Tensor:
    """``(B, T, C)`` -> ``(B, C, 1, T)``, the same memory."""
    return x.transpose(1, 2)[:, :, None]


def _sequence(picture: Tensor) -> Tensor:
    """``(B, C, 1, T)`` -> ``(B, T, C)``."""
    return picture[:, :, 0].transpose(1, 2)


def _filters(weight: Tensor) -> Tensor:
    """``(C, C', K)`` -> ``(C, C', 1, K)``, with the channels last in memory."""
    return weight[:, :, None].contiguous(memory_format=torch.channels_last)


class SEANetEncoder(CausalChain):
    """Samples ``(B, T, 1)`` -> vectors ``(B, T / hop, dim)``: the channels double wherever a stride shortens."""

    def __init__(self, *, channels: int, dim: int, strides: Sequence[int]) -> None:
        layers: list[Layer] = [CausalConv(1, channels, 7, is_first=True)]
        for stride in strides:
            layers += [ResidualUnit(channels, dilation) for dilation in DILATIONS]
            layers.append(CausalConv(channels, 2 * channels, 2 * stride, stride=stride))
            channels *= 2
        layers.append(CausalConv(channels, dim, 3))
        super().__init__(layers)


class SEANetDecoder(CausalChain):
    """Vectors ``(B, T, dim)`` -> samples ``(B, T * hop, 1)``: the encoder's mirror image."""

    def __init__(self, *, channels: int, dim: int, strides: Sequence[int]) -> None:
        width = channels * 2 ** len(strides)
        layers: list[Layer] = [CausalConv(dim, width, 7, is_first=True)]
        for stride in reversed(strides):
            layers.append(CausalUpsample(width, width // 2, stride))
            width //= 2
            layers += [ResidualUnit(width, dilation) for dilation in DILATIONS]
        layers.append(CausalConv(width, 1, 7))
        super().__init__(layers)


class DenoiseFiLM(nn.Module):
    """Scale and shift of every channel by whether noise shall go (Perez et al. 2018; SoundStream III-F); starts as no change."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(2, 2 * dim, bias=False)
        nn.init.normal_(self.modulation.weight, std=0.02)
        with torch.no_grad():
            self.modulation.weight[:dim] += 1

    def forward(self, x: Tensor, denoise: Tensor) -> Tensor:
        """``x (B, T, D)``, ``denoise (B,)`` or ``(B, T)`` bool, as it may change on the way -> ``(B, T, D)``."""
        if denoise.ndim == 1:
            denoise = denoise[:, None]
        scale, shift = self.modulation(F.one_hot(denoise.long(), 2).to(x.dtype)).chunk(2, -1)  # (B, T or 1, D) each
        return x * scale + shift
