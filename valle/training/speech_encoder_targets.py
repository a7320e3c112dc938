"""What HuBERT learns to predict: clusters of MFCCs, of a trained encoder's layer, or of any tokenizer, for every frame of a corpus.

EXP_DIR/targets/0/                 the tokenizer of the first target set, fitted or copied; 1/, 2/, ... of an ensemble.  Where features
                                   are standardised by each cut's own statistics, targets are its nearest centroids to those
EXP_DIR/targets/0.json             which options and cuts it was made of; where they are others before the first checkpoint, it is made anew
EXP_DIR/targets/train.npy          int16 (frames of all cuts laid end to end, target sets), read as a memory map
EXP_DIR/targets/train.json         which tokenizers and which cuts made it; written last
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from valle.data.speech_crops import SpeechCorpus, Targets
from valle.errors import UserError
from valle.models.checkpoint import newest_checkpoint
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.front_ends import FRAME_HOP
from valle.tokenizers.hubert import HubertConfig, hubert_from_encoder
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans, fit_mfcc_kmeans
from valle.tokenizers.registry import CONFIG_FILE, load_semantic, save_tokenizer
from valle.training.distributed import World, pick_device
from valle.training.speech_encoder_fit import fit_hubert, fit_per_cut, load_encoder, per_cut_units_of, units_of
from valle.training.speech_encoder_options import SpeechEncoderOptions

SAMPLE_RATE = 16000
PER_CUT = "-per-cut"  # ends the name of a tokenizer whose centroids are of features standardised by each cut's own statistics
WIDE = HubertConfig(window=500, left=100, right=100)  # targets need no small right context


@dataclass(frozen=True)
class TargetSets:
    """Targets of both corpora, the number of clusters of every set, and whose they are."""

    train: Targets
    valid: Targets
    num_clusters: list[int]
    identities: list[str]


def make_targets(options: SpeechEncoderOptions, train: SpeechCorpus, valid: SpeechCorpus, world: World) -> TargetSets:
    """Fit what must be fitted and encode both corpora, unless ``exp_dir`` holds it; every process encodes its share."""
    folder = options.exp_dir / "targets"
    if world.is_first:
        for index in range(len(options.targets_from)):
            _make_tokenizer(folder / str(index), options, index, train)
    world.barrier()
    tokenizers = [load_semantic(str(folder / str(index))) for index in range(len(options.targets_from))]
    for tokenizer, name in zip(tokenizers, options.targets_from, strict=True):
        if (tokenizer.sample_rate, tokenizer.hop_length) != (SAMPLE_RATE, FRAME_HOP):
            raise UserError(
                f"expected targets at 50 Hz of audio at 16000 Hz, found {tokenizer.identity.grid.rate:g} Hz at {tokenizer.sample_rate} Hz "
                f"from {name}; name another tokenizer, or mfcc"
            )
    device = pick_device(options.device, world)
    for tokenizer in tokenizers:
        tokenizer.to(device)
    return TargetSets(
        train=_encoded(folder / "train.npy", train, tokenizers, world),
        valid=_encoded(folder / "valid.npy", valid, tokenizers, world),
        num_clusters=[tokenizer.num_units for tokenizer in tokenizers],
        identities=[tokenizer.identity.sha256 for tokenizer in tokenizers],
    )


def _make_tokenizer(folder: Path, options: SpeechEncoderOptions, index: int, train: SpeechCorpus) -> None:
    """Target set ``index`` in ``folder``, unless it is there: by these options, or of a run that has learned from it already."""
    made_by = {name: getattr(options, name)[index] for name in ("targets_from", "target_layer", "num_clusters")}
    made_by.update({name: getattr(options, name) for name in ("standardise_targets", "fit_hours", "seed")}, cuts=_digest(train))
    note, config = folder.with_name(f"{folder.name}.json"), folder / CONFIG_FILE
    has_learned = newest_checkpoint(options.exp_dir) is not None
    if config.is_file() and (has_learned or not note.is_file() or json.loads(note.read_text(encoding="utf-8")) == made_by):
        return
    config.unlink(missing_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(made_by) + "\n", encoding="utf-8")
    save_tokenizer(_tokenizer(options, index, train), folder)


def _tokenizer(options: SpeechEncoderOptions, index: int, train: SpeechCorpus) -> SemanticTokenizer:
    """Target set ``index``, fitted on the training corpus where it is not a tokenizer already."""
    name, layer, clusters = options.targets_from[index], options.target_layer[index], options.num_clusters[index]
    audio = train.waveforms(sample_rate=SAMPLE_RATE, most_seconds=3600 * options.fit_hours)
    if name == "mfcc":
        logging.info("Fitting %d clusters of MFCCs", clusters)
        mfcc = MfccConfig(hop_length=FRAME_HOP, frames_per_unit=2, num_units=clusters)
        if options.is_per_cut:
            return fit_per_cut(MfccKMeans(replace(mfcc, name=mfcc.name + PER_CUT)), audio, seed=options.seed)
        return fit_mfcc_kmeans(audio, mfcc, seed=options.seed)
    if not Path(name).is_dir() or (Path(name) / CONFIG_FILE).is_file() or "=" in name:
        return load_semantic(name)
    if layer == 0:
        raise UserError(f"expected the layer of {name} whose states are clustered, from 1, after --target-layer, found none")
    logging.info("Fitting %d clusters of layer %d of %s", clusters, layer, name)
    config = HubertConfig(num_units=clusters, window=WIDE.window, left=WIDE.left, right=WIDE.right)
    device = pick_device(options.device, World())
    encoder = load_encoder(Path(name))
    if options.is_per_cut:
        tokenizer = hubert_from_encoder(encoder, replace(config, name=config.name + PER_CUT), layer=layer).to(device)
        return fit_per_cut(tokenizer, audio, seed=options.seed)
    return fit_hubert(encoder, audio, config, layer=layer, seed=options.seed, device=device)


def _encoded(path: Path, corpus: SpeechCorpus, tokenizers: list[SemanticTokenizer], world: World) -> Targets:
    done, fingerprint = path.with_suffix(".json"), _fingerprint(corpus, tokenizers)
    if not (done.is_file() and json.loads(done.read_text(encoding="utf-8")) == fingerprint):
        logging.info("Encoding the targets of %d cuts", len(corpus.cuts))
        world.barrier()
        if world.is_first:
            done.unlink(missing_ok=True)
            np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=(int(corpus.starts[-1]), len(tokenizers))).flush()
        world.barrier()
        _encode_share(path, corpus, tokenizers, world)
        world.barrier()
        if world.is_first:
            done.write_text(json.dumps(fingerprint) + "\n", encoding="utf-8")
    return np.load(path, mmap_mode="r")


def _encode_share(path: Path, corpus: SpeechCorpus, tokenizers: list[SemanticTokenizer], world: World) -> None:
    """This process's run of cuts, read once a tokenizer."""
    stored = np.load(path, mmap_mode="r+")
    share = corpus.by_length(range(len(corpus.cuts) * world.rank // world.size, len(corpus.cuts) * (world.rank + 1) // world.size))
    for column, tokenizer in enumerate(tokenizers):
        waves = (corpus.audio(index, first=0, count=corpus.num_frames(index), sample_rate=SAMPLE_RATE) for index in share)
        encode = per_cut_units_of if tokenizer.name.endswith(PER_CUT) else units_of
        for index, units in zip(share, encode(tokenizer, waves), strict=True):
            start, stop = corpus.starts[index : index + 2]
            row = units[: stop - start].to(torch.int16).numpy()
            stored[start : start + len(row), column] = row
            stored[start + len(row) : stop, column] = row[-1]
    stored.flush()


def _fingerprint(corpus: SpeechCorpus, tokenizers: list[SemanticTokenizer]) -> dict[str, object]:
    return {"cuts": _digest(corpus), "tokenizers": [tokenizer.identity.sha256 for tokenizer in tokenizers]}


def _digest(corpus: SpeechCorpus) -> str:
    digest = hashlib.sha256()
    for cut in corpus.cuts:
        digest.update(f"{cut.id}|{cut.start}|{Fraction(cut.duration).limit_denominator(10**6)}\n".encode())
    return digest.hexdigest()
