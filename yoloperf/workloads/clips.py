"""Clips with their words: a folder in the layout of Speech Commands (Warden 2018, arXiv:1804.03209).

WORD/SPEAKER_nohash_NUMBER.wav, of one second at most; testing_list.txt and validation_list.txt name the files that are not for
training, by speaker; _background_noise_/*.wav are long, and silence is cut from them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from yoloperf.core.errors import UserError, choose
from yoloperf.workloads.sound import CLIP, clip, read_wav
from yoloperf.workloads.workload import Unusable

# the ten words of the Speech Commands task; every other word is "unknown"
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "unknown", "silence"
NOISE = "_background_noise_"
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
SPLITS = ("train", *LISTS)
_NOISE_S = 600.0  # of the published noises the longest has 95 s


@dataclass(frozen=True)
class Clips:
    """samples: int16 [N, 16000]; labels: int64 [N], places in names; speakers: who speaks each, "" in silence."""

    samples: NDArray[np.int16]
    labels: NDArray[np.int64]
    names: list[str]
    speakers: list[str]


def read_clips(folder: Path, split: str, words: Sequence[str] = WORDS, seed: int = 0) -> Clips:
    """A split's clips: the words, and as many of "unknown" and of "silence" as of a word on average, drawn by the seed;
    for training twice as many of "unknown", which is many words.

    Raises UserError where the folder has another layout or a file is damaged.
    """
    every = split_files(folder, split, words)
    numbers = {word: number for number, word in enumerate(words)}
    chosen = sorted(((name, numbers[word]) for name in every if (word := name.partition("/")[0]) in numbers), key=lambda entry: entry[1])
    each = max(1, len(chosen) // len(words))
    dice = np.random.default_rng([seed, SPLITS.index(split)])
    others = [name for name in every if name.partition("/")[0] not in numbers]
    chosen += [(others[place], len(words)) for place in sorted(dice.permutation(len(others))[: each * (1 + (split == "train"))].tolist())]
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda entry: _clip(folder / entry[0]), chosen)
        spoken = np.stack(list(tqdm(read, f"reading {split}", len(chosen), unit="clip", disable=None, leave=False)))
    silence = _silence(folder / NOISE, each, dice)
    return Clips(
        np.concatenate([spoken, silence]),
        np.array([label for _, label in chosen] + [len(words) + 1] * len(silence)),
        [*words, UNKNOWN, SILENCE],
        [Path(name).name.partition("_nohash_")[0] for name, _ in chosen] + [""] * len(silence),
    )


def split_files(folder: Path, split: str, words: Sequence[str] = WORDS) -> list[str]:
    """A split's files as WORD/FILE.wav, sorted, those of other words among them; no noise.

    Raises UserError where the folder has another layout, lacks one of the words, or has nothing of them for the split.
    """
    choose(split, SPLITS, "split")
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: `yoloperf keywords synth` makes the embedded data set, `fetch` brings Speech Commands")
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))
    missing = [word for word in words if word not in there]
    if missing:
        raise UserError(f"{folder} has no clips of {', '.join(missing)}; its words are {', '.join(there) or 'none'}")
    listed = {other: _listed(folder / name) for other, name in LISTS.items()}
    apart = set[str]().union(*listed.values())
    every = [f"{word}/{name}" for word in there for name in sorted(path.name for path in (folder / word).glob("*.wav"))]
    own = [name for name in every if (name in listed[split] if split in listed else name not in apart)]
    if not any(name.partition("/")[0] in words for name in own):
        raise UserError(f"{folder} has no clips for {split}: {LISTS.get(split, 'the lists')} leave none")
    return own


def _listed(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.parent} is not in Speech Commands' layout: {path.name} cannot be read") from error


def _clip(path: Path) -> NDArray[np.int16]:
    return _whole(clip(_read(path)))


def _whole(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype(np.int16)


def _read(path: Path) -> NDArray[np.float32]:
    try:
        return read_wav(path.read_bytes(), _NOISE_S)
    except (OSError, Unusable) as error:
        raise UserError(f"{path}: {error}") from error


def _silence(folder: Path, count: int, dice: np.random.Generator) -> NDArray[np.int16]:
    """Seconds of the noises, from barely heard to as they are."""
    noises = [_read(path) for path in sorted(folder.glob("*.wav"))]
    noises = [noise for noise in noises if len(noise) > CLIP]
    if not noises:
        raise UserError(f"{folder} has no noise longer than a second, which silence is cut from")
    cut = np.empty((count, CLIP), np.int16)
    for row in cut:
        noise = noises[int(dice.integers(len(noises)))]
        start = int(dice.integers(len(noise) - CLIP))
        row[:] = _whole(noise[start : start + CLIP] * np.float32(dice.uniform(0.0, 1.0)))
    return cut
