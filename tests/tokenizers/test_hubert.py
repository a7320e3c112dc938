"""HuBERT units are a local function of the audio: alone and in a batch, of a prompt and of the file, in windows and at once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_audio import sound
from tiny_speech import RATE, babble, tiny_encoder, tiny_hubert, utter

from benchmarks.memory import SAMPLES
from valle.audio import read_audio
from valle.errors import UserError
from valle.tokenizers.front_ends import MelFrontEnd
from valle.tokenizers.hubert import HubertConfig, HubertTokenizer, hubert_from_encoder
from valle.tokenizers.registry import TokenizerError, load_semantic, save_tokenizer, tokenizer_from_state, tokenizer_to_state
from valle.tokenizers.speech_encoder import SpeechEncoderConfig

KINDS = {
    "mel": {},
    "wave": {"front_end": "wave"},
    "causal": {"causal": True},
    "causal wave": {"causal": True, "front_end": "wave"},
    "bounded": {"left_reach": 8, "right_reach": 2},
    "bounded and causal, rotary alone": {"left_reach": 8, "causal": True, "positional_kernel": 0},
    "bounded ahead only": {"right_reach": 2},
}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, HubertTokenizer]:
    return {name: tiny_hubert(**changes) for name, changes in KINDS.items()}


def lengths_of(wav: torch.Tensor) -> torch.Tensor:
    return torch.full((len(wav),), wav.shape[1])


def wave(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(babble(seconds, seed=seed))[None]


def test_units_are_chosen_in_full_precision_whatever_the_autocast() -> None:
    tokenizer = tiny_hubert()
    features = torch.randn(4000, len(tokenizer.mean), generator=torch.Generator().manual_seed(0))
    exact = tokenizer.nearest(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = (tokenizer.centroids.square().sum(1) - 2 * features @ tokenizer.centroids.T).argmin(-1)
        assert torch.equal(tokenizer.nearest(features), exact) and not torch.equal(rough, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_units_alone_equal_units_in_a_padded_batch(kind: str, tokenizers: dict[str, HubertTokenizer]) -> None:
    tokenizer, rows = tokenizers[kind], [wave(seconds, seed) for seed, seconds in enumerate((0.513, 2.0, 1.27))]
    padded = torch.full((3, 40000), 0.5)  # what lies past a row's end must not be heard
    for row, alone in zip(padded, rows, strict=True):
        row[: alone.shape[1]] = alone[0]
    units, counts = tokenizer.encode(padded, torch.tensor([row.shape[1] for row in rows]))
    hidden = tokenizer.hidden(padded, torch.tensor([row.shape[1] for row in rows]))
    assert units.shape == (3, 125) and len(units.unique()) > 5
    for index, alone in enumerate(rows):
        expected, count = tokenizer.encode(alone, lengths_of(alone))
        assert counts[index] == count[0] == tokenizer.num_tokens(alone.shape[1])
        assert torch.equal(units[index, : count[0]], expected[0]) and not units[index, count[0] :].any()
        torch.testing.assert_close(hidden[index, : count[0]], tokenizer.hidden(alone, lengths_of(alone))[0], rtol=1e-4, atol=1e-4)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(cut=st.integers(4000, 44000), kind=st.sampled_from(sorted(KINDS)))
def test_a_prompt_has_the_states_of_the_whole_file_up_to_the_right_context(
    tokenizers: dict[str, HubertTokenizer], cut: int, kind: str
) -> None:
    tokenizer, whole = tokenizers[kind], wave(3.0)
    kept = (cut - tokenizer.right_context) // tokenizer.hop_length
    prompt = tokenizer.hidden(whole[:, :cut], torch.tensor([cut]))[:, : max(0, kept)]
    torch.testing.assert_close(prompt, tokenizer.hidden(whole, lengths_of(whole))[:, : max(0, kept)], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("place", [70, 79])  # the first of a window hears most of what follows, the last most of what was before
@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_depends_on_nothing_beyond_its_stated_context(kind: str, place: int, tokenizers: dict[str, HubertTokenizer]) -> None:
    tokenizer, wav = tokenizers[kind], wave(3.0)
    start = place * tokenizer.hop_length
    left, right = start - tokenizer.left_context, start + tokenizer.hop_length + tokenizer.right_context
    other = torch.rand_like(wav) - 0.5
    if left > 0:
        other[:, left:right] = wav[:, left:right]
    else:
        other[:, :right] = wav[:, :right]
    heard, changed = (tokenizer.hidden(version, lengths_of(wav))[0, place] for version in (wav, other))
    torch.testing.assert_close(heard, changed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["bounded", "bounded and causal, rotary alone"])
def test_windows_change_nothing_where_attention_is_bounded(kind: str, tokenizers: dict[str, HubertTokenizer]) -> None:
    tokenizer, wav = tokenizers[kind], wave(6.0)
    assert len(list(tokenizer._windows(0, wav.shape[1]))) > 1
    with torch.no_grad():
        at_once = tokenizer.encoder(wav, lengths_of(wav), layer=2)
    torch.testing.assert_close(tokenizer.hidden(wav, lengths_of(wav)), at_once, rtol=1e-4, atol=1e-4)


def test_a_causal_encoder_states_no_right_context(tokenizers: dict[str, HubertTokenizer]) -> None:
    assert tokenizers["causal"].right_context == tokenizers["causal wave"].right_context == 0
    assert tokenizers["bounded"].right_context == 2 * 2 * 320 + 7 * 320 + 120
    assert tokenizers["mel"].right_context == (5 + 10 - 1) * 320 and tokenizers["mel"].left_context == (20 + 10 - 1) * 320


def test_at_25_hz_a_unit_is_the_mean_of_two_frames() -> None:
    slow, fast = tiny_hubert(frames_per_unit=2, left_reach=8, right_reach=2), tiny_hubert(left_reach=8, right_reach=2)
    wav = wave(1.28)
    assert slow.hop_length == 640 and slow.encode(wav, lengths_of(wav))[1].tolist() == [32]
    pairs = fast.hidden(wav, lengths_of(wav))[0].unflatten(0, (-1, 2)).mean(1)
    torch.testing.assert_close(slow.hidden(wav, lengths_of(wav))[0], pairs, rtol=1e-4, atol=1e-4)


def test_units_are_the_nearest_centroids_of_standardised_states(tokenizers: dict[str, HubertTokenizer]) -> None:
    tokenizer, wav = tokenizers["mel"], wave(2.0)
    states = tokenizer.hidden(wav, lengths_of(wav))[0]
    standard = (states - tokenizer.mean) / tokenizer.deviation
    nearest = torch.tensor([int((tokenizer.centroids - row).square().sum(1).argmin()) for row in standard])
    assert torch.equal(tokenizer.encode(wav, lengths_of(wav))[0][0], nearest)
    torch.testing.assert_close(tokenizer.features(wav, lengths_of(wav))[0], standard)


@pytest.mark.parametrize("kind", ["mel", "wave"])
def test_a_saved_tokenizer_is_the_same_one(kind: str, tokenizers: dict[str, HubertTokenizer], tmp_path: Path) -> None:
    tokenizer, wav = tokenizers[kind], wave(1.0)
    save_tokenizer(tokenizer, tmp_path)
    for loaded in (load_semantic(str(tmp_path)), tokenizer_from_state(tokenizer_to_state(tokenizer))):
        assert loaded.identity == tokenizer.identity
        assert torch.equal(loaded.encode(wav, lengths_of(wav))[0], tokenizer.encode(wav, lengths_of(wav))[0])
    assert (tmp_path / "model.safetensors").stat().st_size < 3 * sum(tensor.numel() for tensor in tokenizer.state_dict().values())


def test_identity_follows_layer_clusters_and_windows() -> None:
    base = tiny_hubert()
    others = [tiny_hubert(layer=1), tiny_hubert(num_units=21), tiny_hubert(frames_per_unit=2), tiny_hubert(right_reach=3)]
    moved = hubert_from_encoder(tiny_encoder(), replace(base.settings, right=6), layer=2)
    hashes = {tokenizer.identity.sha256 for tokenizer in (base, *others, moved)}
    assert len(hashes) == 6 and tiny_hubert().identity == base.identity


def test_a_tokenizer_holds_no_block_above_its_layer() -> None:
    tokenizer = tiny_hubert(layer=1)
    assert not [name for name in tokenizer.state_dict() if "blocks.1" in name]
    encoder, wav = tiny_encoder(), wave(1.0)
    states = list(encoder.states(encoder.embed(encoder.hear(wav, lengths_of(wav))), torch.tensor([50])))
    assert len(states) == 4
    for layer, state in enumerate(states):
        assert torch.equal(encoder(wav, lengths_of(wav), layer=layer), state)


def test_many_windows_are_encoded_a_few_at_a_time(tokenizers: dict[str, HubertTokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, wav = tokenizers["mel"], wave(30.0)
    sizes = []
    tokenizer.encoder.front_end.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].numel()))
    expected = tokenizer.encode(wav, lengths_of(wav))[0]
    assert sum(sizes) > 2 * wav.numel() and max(sizes) <= 60 * RATE
    monkeypatch.setattr("valle.tokenizers.clustered_units.BATCH_SECONDS", 1.0)
    assert torch.equal(tokenizer.encode(wav, lengths_of(wav))[0], expected) and min(sizes) <= RATE


def test_units_are_those_of_fp32_under_autocast(tokenizers: dict[str, HubertTokenizer]) -> None:
    tokenizer, wav = tokenizers["mel"], wave(2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        units = tokenizer.encode(wav, lengths_of(wav))[0]
    assert torch.equal(units, tokenizer.encode(wav, lengths_of(wav))[0])


def test_a_recording_of_no_or_few_samples_has_units(tokenizers: dict[str, HubertTokenizer]) -> None:
    for samples in (1, 319, 321):
        units, counts = tokenizers["mel"].encode(torch.zeros(1, samples), torch.tensor([samples]))
        assert units.shape == (1, -(-samples // 320)) and counts.tolist() == [units.shape[1]]


def test_front_ends_know_the_statistics_of_the_corpus_and_not_of_the_utterance() -> None:
    front = MelFrontEnd(sample_rate=RATE, num_mels=20, causal=False)
    wav = torch.from_numpy(sound(2.0))[None]
    front.take_statistics(wav, lengths_of(wav))
    heard = front(wav)
    assert abs(float(heard.mean())) < 0.05 and abs(float(heard.std()) - 1) < 0.1
    assert torch.allclose(front(wav / 10), heard - 2 * torch.log(torch.tensor(10.0)) / front.deviation.repeat(2), atol=0.3)


def test_impossible_settings_are_refused() -> None:
    for wrong, words in (
        (lambda: SpeechEncoderConfig(sample_rate=8000), "16000 Hz"),
        (lambda: SpeechEncoderConfig(positional_kernel=4), "odd positional kernel"),
        (lambda: SpeechEncoderConfig(left_reach=-1), "left_reach"),
        (lambda: HubertConfig(frames_per_unit=3), "1 frame a unit"),
        (lambda: HubertConfig(window=0), "window"),
        (lambda: tiny_hubert(layer=4), "within 1..3"),
    ):
        with pytest.raises(UserError, match=words):
            wrong()


def test_weights_of_another_size_are_refused() -> None:
    state = tokenizer_to_state(tiny_hubert())
    state["config"]["num_units"] = 7
    with pytest.raises(TokenizerError, match="do not fit"):
        tokenizer_from_state(state)


def test_a_scaled_spectrum_resembles_the_same_words_in_another_voice() -> None:
    front_end = tiny_encoder().front_end
    assert isinstance(front_end, MelFrontEnd)
    said = [("a", 0.1), ("i", 0.15), ("o", 0.1), ("e", 0.05)]
    mels, higher = (front_end.log_mels(torch.from_numpy(utter(said, shift=shift)[None, :6400])) for shift in (1.0, 1.2))
    distances = {by: float((front_end.scaled(mels, torch.tensor([by])) - higher).abs().mean()) for by in (1 / 1.2, 1.0, 1.2)}
    assert distances[1.2] < 0.8 * distances[1.0] and distances[1.0] < distances[1 / 1.2]
    torch.testing.assert_close(front_end.scaled(mels, torch.ones(1)), mels, atol=1e-2, rtol=0)


def test_voices_are_changed_in_training_alone() -> None:
    encoder = tiny_encoder()
    encoder.voice_change = 0.2
    wav = torch.from_numpy(babble(1.0, seed=3))[None].repeat(2, 1)
    lengths = torch.tensor([16000, 16000])
    plain = encoder.eval().hear(wav, lengths)
    torch.manual_seed(0)
    changed = encoder.train().hear(wav, lengths)
    assert torch.equal(plain[0], plain[1]) and not torch.equal(changed[0], changed[1]) and not torch.equal(plain, changed)


def test_what_a_continuation_goes_on_from_hardly_ever_changes() -> None:
    """Units between the bound and what is kept: of the bundled recordings, cut off every third of a second."""
    tokenizer = load_semantic("valle-hubert")
    same: list[torch.Tensor] = []
    for path in sorted(SAMPLES.glob("*.flac")):
        wav, _ = read_audio(path, sample_rate=tokenizer.sample_rate)
        whole = tokenizer.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))[0][0]
        for end in range(tokenizer.sample_rate, len(wav), tokenizer.sample_rate // 3):
            heard = tokenizer.encode(torch.from_numpy(wav[:end])[None], torch.tensor([end]))[0][0]
            between = slice(tokenizer.settled(end), tokenizer.kept_of_prompt(end))
            same.append(heard[between] == whole[between])
            assert torch.equal(heard[: between.start], whole[: between.start])
    assert torch.cat(same).float().mean() >= 0.999 and len(torch.cat(same)) > 500


@pytest.mark.parametrize("kind", ["causal", "mel"])
def test_where_nothing_is_known_to_be_nearer_a_prompt_keeps_what_is_settled(kind: str, tokenizers: dict[str, HubertTokenizer]) -> None:
    for samples in (0, 1000, 16000, 47999):
        assert tokenizers[kind].kept_of_prompt(samples) == tokenizers[kind].settled(samples)
