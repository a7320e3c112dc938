"""A codec and its adversaries in one step: neither side's loss moves the other, and a run that was cut goes on bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codec import audio_manifest, codec_loop, codec_options, run_and_leave_state
from tiny_training import differences, in_processes
from torch import Tensor, nn

from valle.config import parse_flags
from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint
from valle.tokenizers.registry import load_acoustic, save_tokenizer
from valle.training.codec_losses import Balancer
from valle.training.codec_model import TrainedCodec, _part
from valle.training.codec_options import CodecOptions
from valle.training.codec_task import CodecTask
from valle.training.optim import build_optimizer
from valle.training.precision import Precision
from valle.training.train_codec import train_codec

Options = Callable[..., CodecOptions]
KEPT = ("model", "optimizer", "scheduler", "grad_scaler", "sampler", "model_avg")
CONFIGS = sorted((Path(__file__).parents[2] / "egs").glob("*/conf/soundstream*.yaml"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audio_manifest(tmp_path_factory.mktemp("audio"))


@pytest.fixture
def options(manifest: Path, tmp_path: Path) -> Options:
    return lambda **changes: codec_options(manifest, changes.pop("exp_dir", tmp_path / "exp"), **{"adversarial": "msstft", **changes})


def batch_of(task: CodecTask) -> Tensor:
    return task._dataset(1, task.sources, 1)[0]


def fixed(task: CodecTask) -> TrainedCodec:
    """The model in training, without what it draws for the quantizer or moves in it."""
    task.codec.quantizer.dropout, task.codec.quantizer.is_fixed = 0.0, True
    return task.model.train()


@pytest.mark.parametrize("changes", [{}, {"balancer": True}, {"codec": "soundstream"}, {"adversarial": "mpd", "adversarial_periods": [2]}])
def test_neither_sides_loss_has_a_gradient_in_the_other(options: Options, changes: dict[str, Any]) -> None:
    task = CodecTask(options(**changes))
    parts, own = task.model.train()(batch_of(task)), task.part_parameters()
    for name, other in (("codec", "discriminator"), ("discriminator", "codec")):
        theirs = torch.autograd.grad(parts[name].sum, own[other], retain_graph=True, allow_unused=True)
        assert all(gradient is None for gradient in theirs)
        ours = torch.autograd.grad(parts[name].sum, own[name], retain_graph=True)
        assert all(torch.isfinite(gradient).all() for gradient in ours) and any(bool(gradient.any()) for gradient in ours)


def test_the_adversary_moves_the_codec_through_the_output_alone(options: Options) -> None:
    task = CodecTask(options(mel_weight=0.0, time_weight=0.0, feature_weight=0.0, commitment=0.0))
    part = fixed(task)(batch_of(task))["codec"]
    decoder, encoder = task.codec.decoder_output.weight, task.codec.encoder_input.weight  # type: ignore[attr-defined]
    for parameter in (decoder, encoder):
        assert torch.autograd.grad(part.sum, parameter, retain_graph=True)[0].any()


def test_parts_of_a_split_batch_add_up(options: Options) -> None:
    task = CodecTask(options(batch_size=4))
    model, wav = fixed(task), batch_of(task)

    def sums(rows: Tensor) -> dict[str, tuple[float, float, float]]:
        torch.manual_seed(3)
        return {name: (float(part.sum.detach()), float(part.count), float(part.correct)) for name, part in model(rows).items()}

    whole, first, second = sums(wav), sums(wav[:1]), sums(wav[1:])
    for name in whole:
        assert whole[name] == pytest.approx([a + b for a, b in zip(first[name], second[name], strict=True)], rel=1e-4)


def test_the_balancer_gives_each_loss_its_weights_share_whatever_its_size() -> None:
    torch.manual_seed(0)
    target, shares = torch.randn(3, 50), {"near": 1.0, "far": 3.0}
    gradients = []
    for size in (1.0, 1000.0):
        output = torch.zeros(3, 50, requires_grad=True)
        losses = {"near": (output - target).abs().mean(1), "far": size * (output - 2 * target).square().mean(1)}
        total = Balancer(shares)(losses, output)
        torch.testing.assert_close(total, losses["near"] + 3 * losses["far"])
        wanted = torch.zeros_like(output)
        for name, loss in losses.items():  # the slow twin
            (gradient,) = torch.autograd.grad(loss.sum(), output, retain_graph=True)
            wanted += shares[name] / 4 * gradient / gradient.norm(dim=1).mean()
        gradients.append(torch.autograd.grad(total.mean(), output)[0])
        torch.testing.assert_close(gradients[-1], wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [2, 16])
def test_the_balanced_gradient_of_an_example_is_one_whatever_the_batch(batch_size: int) -> None:
    """As EnCodec's, which backpropagates it undivided."""
    output = torch.zeros(batch_size, 50, requires_grad=True)
    losses = {"near": (output - 1).square().mean(1)}  # one loss, alike for all examples: the share is the whole
    part = _part(Balancer({"near": 1.0})(losses, output))
    (gradient,) = torch.autograd.grad(part.sum / part.count, output)  # what a step takes
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(batch_size))


def test_sets_of_parameters_are_clipped_each_by_its_own_norm() -> None:
    model = nn.ModuleDict({"codec": nn.Linear(4, 1, bias=False), "discriminator": nn.Linear(4, 1, bias=False)})
    sets = [list(part.parameters()) for part in model.values()]
    for parameter, size in zip(model.parameters(), (0.25, 1e6), strict=True):
        nn.init.zeros_(parameter)
        parameter.grad = torch.full_like(parameter, size)
    norm = Precision("float32", torch.device("cpu")).step(torch.optim.SGD(model.parameters(), lr=1.0), model, 1.0, apart=sets)
    assert norm == pytest.approx(2e6)
    assert model["codec"].weight.norm().item() == pytest.approx(0.5)  # below the limit, so as it is
    assert model["discriminator"].weight.norm().item() == pytest.approx(1.0)


def test_a_larger_discriminator_changes_no_gradient_of_the_codec_by_clipping(options: Options, tmp_path: Path) -> None:
    save_tokenizer(CodecTask(options()).codec, tmp_path / "start")
    seen = []
    for channels in (2, 6):
        weights = {"adversarial_weight": 0.0, "feature_weight": 0.0, "clip_grad_norm": 0.01, "adversarial_channels": channels}
        loop = codec_loop(options(init_codec=str(tmp_path / "start"), exp_dir=tmp_path / str(channels), **weights))
        loop.progress.step = 1
        loop.train_step([batch_of(loop.task)])  # type: ignore[arg-type]
        seen.append([loop.optimizer.state[parameter]["exp_avg"] for parameter in loop.parts["codec"]])
    for first, second in zip(*seen, strict=True):
        torch.testing.assert_close(first, second)


def test_each_part_has_its_own_rate(options: Options) -> None:
    settings = options(discriminator_lr=0.004, base_lr=0.001, adversarial_start_step=10, warmup_steps=4)
    assert [settings.rate_of_part("discriminator", step) for step in (10, 12, 14, 99)] == [0, 2, 4, 4]
    assert settings.rate_of_part("codec", 3) == 1
    task = CodecTask(settings)
    groups = build_optimizer(task.model, settings, task.part_parameters()).param_groups
    assert [group["part"] for group in groups] == ["codec"] * 2 + ["discriminator"] * 2
    assert sum(len(group["params"]) for group in groups) == len(list(task.model.parameters()))


def test_discriminators_rest_until_they_come_in(options: Options) -> None:
    loop = codec_loop(options(adversarial_start_step=2, weight_decay=0.5, warmup_steps=1))
    model: Any = loop.task.model
    before = [parameter.detach().clone() for parameter in model.discriminators.parameters()]
    for step in (1, 2, 3):
        loop.progress.step = step
        loop.train_step([batch_of(loop.task)])  # type: ignore[arg-type]
        moved = [not torch.equal(now, then) for now, then in zip(model.discriminators.parameters(), before, strict=True)]
        assert not any(moved) if step < 3 else all(moved)
        assert ("adversarial" in model.observed) == (step == 3)


@pytest.mark.parametrize("changes", [{"adversarial_start_step": 2, "balancer": True}, {"codec": "soundstream", "adversarial": "stft+mpd"}])
def test_a_run_that_was_cut_goes_on_bit_for_bit(options: Options, tmp_path: Path, changes: dict[str, Any]) -> None:
    ends = []
    for name, stops in (("whole", [8]), ("cut", [3, 8])):
        for stop in stops:
            settings = options(exp_dir=tmp_path / name, max_steps=stop, adversarial_periods=[2], **changes)
            codec_loop(settings).run()
        ends.append(load_checkpoint(tmp_path / name / "checkpoint-8.pt"))
    assert not [found for key in KEPT for found in differences(ends[0][key], ends[1][key], key)]
    assert any(key.startswith("discriminators.") for key in ends[0]["model"])


def test_two_processes_hold_equal_codebooks_and_discriminators(options: Options) -> None:
    settings = options(batch_size=1, num_epochs=1, batches_per_epoch=5, num_quantizers=3)
    assert in_processes(run_and_leave_state, settings, size=2) == [0, 0]
    first, second = (torch.load(settings.exp_dir / f"state-{rank}.pt", weights_only=True) for rank in range(2))
    assert not differences(first, second)


def test_the_tokenizer_holds_the_codec_alone_and_the_checkpoint_all(options: Options) -> None:
    settings = options(num_epochs=1)
    train_codec(settings)
    state = load_checkpoint(settings.exp_dir / "epoch-1.pt")
    assert any(key.startswith("discriminators.") for key in state["model"])
    codec = load_acoustic(str(settings.exp_dir / "codec"))
    assert sorted(codec.state_dict()) == sorted(key.removeprefix("codec.") for key in state["model"] if key.startswith("codec."))
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, state["model"][f"codec.{name}"].half().float()), name


@pytest.mark.parametrize(("choice", "file"), [("best", "best-valid-loss.pt"), ("averaged", "epoch-2.pt")])
def test_weights_that_scored_best_or_averaged_ones_are_left(options: Options, choice: str, file: str) -> None:
    settings = options(adversarial="none", export=choice, export_avg=2, valid_interval=3, base_lr=0.05)
    train_codec(settings)
    state = load_checkpoint(settings.exp_dir / file)
    wanted = state["model_avg" if choice == "averaged" else "model"]
    for name, tensor in load_acoustic(str(settings.exp_dir / "codec")).state_dict().items():
        assert torch.equal(tensor, wanted[f"codec.{name}"].float().half().float()), name
    last = load_checkpoint(settings.exp_dir / "epoch-2.pt")["model"]
    assert choice == "best" or any(not torch.equal(last[name], value.float()) for name, value in wanted.items())


def test_with_the_encoder_frozen_codes_stay_and_sound_changes(options: Options, tmp_path: Path) -> None:
    start = CodecTask(options()).codec.eval()
    save_tokenizer(start, tmp_path / "start")
    settings = options(init_codec=str(tmp_path / "start"), freeze_encoder=True, num_epochs=1, base_lr=0.01)
    train_codec(settings)
    trained, wav = load_acoustic(str(settings.exp_dir / "codec")), torch.randn(1, 3200) * 0.1
    codes, lengths = load_acoustic(str(tmp_path / "start")).encode(wav, torch.tensor([3200]))
    agreement = (trained.encode(wav, torch.tensor([3200]))[0] == codes).float().mean()
    assert agreement > 0.95  # all but for rounding to half
    assert not torch.allclose(trained.decode(codes, lengths), start.decode(codes, lengths), atol=1e-3)


def test_noise_goes_where_asked_to_and_clean_audio_stays_either_way(options: Options, tmp_path: Path) -> None:
    noise = audio_manifest(tmp_path, name="noise", count=1, seed=50)
    task = CodecTask(options(codec="soundstream", denoise=True, noise_manifests=[noise], noise_db=[-6.0, 0.0], batch_size=4))
    (batch,) = [next(iter(task.batches(epoch=1, skip=0, world=codec_loop(task.options).world)))]
    assert batch.shape == (4, 2, 3200)
    task.model.train()
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        wav, target, denoise = task.model._task_of(batch)
        assert denoise is not None
        for row in range(4):
            is_clean = torch.equal(wav[row], batch[row, 0])
            seen.add((is_clean, bool(denoise[row])))
            if is_clean or not denoise[row]:
                assert torch.equal(target[row], wav[row])
            else:
                scale = target[row].norm() / batch[row, 0].norm()
                torch.testing.assert_close(target[row], batch[row, 0] * scale)
                assert not torch.allclose(target[row], wav[row])
    assert len(seen) == 4
    parts = task.model(batch)
    assert task.codec.film is not None  # type: ignore[attr-defined]
    assert torch.autograd.grad(parts["codec"].sum, task.codec.film.modulation.weight)[0].any()  # type: ignore[attr-defined]


def test_perplexity_of_every_codebook_is_told(options: Options) -> None:
    loop = codec_loop(options())
    loop.progress.step = 1
    batch = batch_of(loop.task)  # type: ignore[arg-type]
    loop.train_step([batch])
    about = loop.task.describe(batch)
    assert {"mel", "time", "commitment", "adversarial", "feature"} <= about.keys()
    for level in range(2):
        assert 1 <= about[f"perplexity_{level}"] <= 8


def test_bands_are_learned_by_and_not_scored_by(options: Options, tmp_path: Path) -> None:
    """So that the dev losses of runs with and without them compare."""
    plain, banded = (
        CodecTask(options(adversarial="none", exp_dir=tmp_path / str(weight), band_weight=weight)).model for weight in (0.0, 2.0)
    )
    batch = batch_of(CodecTask(options(adversarial="none")))
    with torch.no_grad():
        assert torch.equal(plain.eval()(batch)["codec"].sum, banded.eval()(batch)["codec"].sum)
        banded.train()(batch)
    assert "band" in banded.observed and banded.observed["band"] > 0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_recipes_settings_can_be_read(path: Path, manifest: Path) -> None:
    settings = parse_flags(CodecOptions, ["--config", str(path), "--manifests", str(manifest)])
    assert settings.codec == "soundstream" and settings.is_adversarial


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adversarial": "dac"}, "--adversarial must be none, soundstream"),
        ({"adversarial": "mpd+mpd"}, "each once"),
        ({"adversarial_windows": [5]}, "--adversarial-windows"),
        ({"denoise": True}, "--codec soundstream"),
        ({"denoise": True, "codec": "soundstream"}, "--noise-manifests"),
        ({"noise_db": [0.0, -30.0]}, "--noise-db"),
        ({"feature_weight": -1.0}, "--feature-weight"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_their_flags(options: Options, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        options(**changes)
