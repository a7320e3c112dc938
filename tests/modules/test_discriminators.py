"""Discriminators: what they give, and that their logits know no floor."""

import pytest
import torch

from valle.modules.discriminators import KINDS, Discriminators, STFTDiscriminator, build_discriminators, kinds_of


def tiny(name: str) -> Discriminators:
    torch.manual_seed(0)
    return build_discriminators(name, channels=4, windows=(128, 64), periods=(2, 3))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_can_be_of_either_sign(kind: str) -> None:
    network = tiny(kind)
    for member in network.modules():
        if hasattr(member, "last"):
            member.last.bias.data.fill_(-1)
    low = [judgement.logits for judgement in network(torch.randn(2, 2000))]
    assert all(float(logits.min()) < 0 for logits in low)  # through abs() none would be
    for member in network.modules():
        if hasattr(member, "last"):
            member.last.bias.data.fill_(1)
    for before, after in zip(low, network(torch.randn(2, 2000)), strict=True):
        assert after.logits.max() > before.max()


@pytest.mark.parametrize(("kind", "scales"), [("stft", 1), ("waves", 3), ("msstft", 2), ("mpd", 2)])
def test_every_scale_judges_and_tells_what_it_saw(kind: str, scales: int) -> None:
    judgements = tiny(kind)(torch.randn(3, 2001))
    assert len(judgements) == scales
    for judgement in judgements:
        assert len(judgement.logits) == 3 and judgement.logits.shape[1] == 1
        assert len(judgement.features) >= 5
        assert all(len(feature) == 3 for feature in judgement.features)


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_judged_alone(kind: str) -> None:
    network, wav = tiny(kind), torch.randn(2, 1500)
    for alone, together in zip(network(wav[:1]), network(wav), strict=True):
        torch.testing.assert_close(alone.logits, together.logits[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_depends_on_the_sound_and_on_every_parameter(kind: str) -> None:
    network, wav = tiny(kind), torch.randn(1, 2000, requires_grad=True)
    torch.stack([judgement.logits.square().mean() for judgement in network(wav)]).sum().backward()
    assert wav.grad is not None and wav.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_soundstreams_stft_discriminator_ends_at_one_number_a_step_of_time() -> None:
    (judgement,) = STFTDiscriminator(channels=2)(torch.randn(1, 16000))
    frames = 16000 // 256 + 1
    assert judgement.logits.shape == (1, 1, -(-frames // 8), 1)
    assert judgement.features[-1].shape[1:] == (32, -(-frames // 8), 8)


def test_names_are_joined_by_plus() -> None:
    assert kinds_of("soundstream+mpd") == ("stft", "waves", "mpd")
    with pytest.raises(ValueError, match="mpd"):
        kinds_of("mpd+mpd")
    with pytest.raises(ValueError, match="dac"):
        kinds_of("msstft+dac")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strided_layers_leave_memory_whole(dtype: torch.dtype) -> None:
    # A strided convolution of width 1 on channels-last inputs writes past its end in some builds of torch.
    network = STFTDiscriminator(channels=8)
    for _ in range(3):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            (judgement,) = network(torch.randn(4, 8000))
        judgement.logits.float().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)
