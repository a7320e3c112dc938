"""Losses of a codec against its discriminators, one value an example, and EnCodec's balance between losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from valle.modules.discriminators import Judgement


def discriminator_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """Hinge (SoundStream, equation 1), mean over scales and time -> ``(B,)``."""
    losses = [_each(F.relu(1 - a.logits)) + _each(F.relu(1 + b.logits)) for a, b in zip(real, fake, strict=True)]
    return torch.stack(losses).mean(0)


def discriminator_hits(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """The share of logits on the right side of zero, mean over scales -> ``(B,)``."""
    hits = [_each((a.logits > 0).float()) + _each((b.logits < 0).float()) for a, b in zip(real, fake, strict=True)]
    return torch.stack(hits).mean(0) / 2


def adversarial_loss(fake: Sequence[Judgement]) -> Tensor:
    """The generator's hinge (equation 2), mean over scales and time -> ``(B,)``."""
    return torch.stack([_each(F.relu(1 - judgement.logits)) for judgement in fake]).mean(0)


def feature_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """L1 between what every layer saw (equation 3), as a share of the real's size as in EnCodec, mean over layers -> ``(B,)``.

    The gradient reaches ``fake`` only.
    """
    losses = []
    for a, b in zip(real, fake, strict=True):
        for wanted, found in zip(a.features, b.features, strict=True):
            wanted = wanted.detach().float()
            losses.append(_each((found.float() - wanted).abs()) / _each(wanted.abs()).clamp(min=1e-3))
    return torch.stack(losses).mean(0)


class Balancer(nn.Module):
    """EnCodec's (Defossez et al. 2022, 3.4): each loss has its weight's share of the gradient at the output, whatever its size.

    With ``g`` the gradient of one loss at an example's output and ``n`` the running mean of its norm, that output gets
    ``sum(weight / sum of weights * g / n)``: a gradient of about 1 an example, whatever the batch's size.  In the original that
    gradient is backpropagated as it is, summed over examples.  Here a step divides by their number, so the sum is multiplied by
    it.  Processes and micro-batches are averaged, as DDP does in the original.
    """

    norms: Tensor
    seen: Tensor

    def __init__(self, weights: Mapping[str, float], *, decay: float = 0.999) -> None:
        super().__init__()
        self.weights, self.decay = dict(weights), decay
        self.register_buffer("norms", torch.zeros(len(weights)))
        self.register_buffer("seen", torch.zeros(len(weights)))  # how much of a mean each is: corrects for the start at zero

    def forward(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """``losses`` by name, ``(B,)`` each, functions of ``output (B, T)`` -> their weighted sum ``(B,)``.

        The mean of what is returned has the balanced gradient.
        """
        used = [(index, name) for index, name in enumerate(self.weights) if name in losses]
        gradients = [torch.autograd.grad(losses[name].sum(), output, retain_graph=True)[0] for _, name in used]
        self._observe([index for index, _ in used], torch.stack([gradient.flatten(1).norm(dim=1).mean() for gradient in gradients]))
        share = sum(self.weights[name] for _, name in used)
        balanced = torch.zeros_like(output)
        for (index, name), gradient in zip(used, gradients, strict=True):
            norm = self.norms[index] / self.seen[index]
            balanced += self.weights[name] / share * gradient / norm.clamp(min=1e-12)
        value = torch.stack([self.weights[name] * losses[name].detach() for _, name in used]).sum(0)
        surrogate = len(output) * (output * balanced).flatten(1).sum(1)
        return value + surrogate - surrogate.detach()

    @torch.no_grad()
    def _observe(self, indices: list[int], norms: Tensor) -> None:
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(norms)
            norms = norms / dist.get_world_size()
        self.norms[indices] = self.norms[indices].lerp(norms, 1 - self.decay)
        self.seen[indices] = self.seen[indices].lerp(torch.ones_like(norms), 1 - self.decay)


def _each(values: Tensor) -> Tensor:
    """The mean of each example's ``values (B, ...)`` -> ``(B,)``, fp32."""
    return values.float().flatten(1).mean(1)
