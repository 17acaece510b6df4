"""The embedded data set of spoken words: made by espeak-ng, with speakers in the test split that training has not heard.

A speaker is an accent with a voice variant of espeak-ng. Variants, not only speakers, are divided among the splits: a variant
shapes the voice, so that a test speaker's voice is new in every accent.
"""

import hashlib
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.core.limits import available_cores
from yoloperf.datasets.folders import new_folder
from yoloperf.workloads.clips import LISTS, NOISE, WORDS
from yoloperf.workloads.sound import CLIP, RATE_HZ, Samples, clip, read_wav, wav

INSTALL = "espeak-ng is not installed, and speaks the words: apt-get install -y espeak-ng"
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
VARIANTS = {
    "train": ("m1", "m2", "m3", "m5", "m6", "f1", "f2", "f4"),
    "val": ("m8", "f5"),
    "test": ("m4", "m7", "f3"),
}
OTHERS = ("zero", "one", "two", "three", "four", "five", "six", "bed", "bird", "cat", "dog", "happy", "house", "tree", "wow")
_PITCH, _SPEED = (25, 75), (120, 210)  # of 0 to 99, and words a minute; espeak-ng's own are 50 and 175
_QUIET, _LOUD = 0.2, 0.8  # peak of a word
_SNR_DB = (8.0, 35.0)  # word to noise, over the whole clip
_NOISE_S = 30


@dataclass(frozen=True)
class _Spoken:
    """A clip to be made."""

    word: str
    accent: str
    variant: str
    take: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.word}/{self.accent}+{self.variant}_nohash_{self.take}.wav"


def synthesise(target: Path, takes: int = 3, seed: int = 0, accents: tuple[str, ...] = ACCENTS) -> int:
    """Write the data set; returns its number of clips. takes: of a word by a speaker; of each other word there is one.

    The same seed, takes and version of espeak-ng give the same files. Raises UserError where espeak-ng is missing.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise UserError(INSTALL)
    clips = {split: list(_plan(variants, accents, takes, seed)) for split, variants in VARIANTS.items()}
    every = [spoken for own in clips.values() for spoken in own]
    with new_folder(target) as folder:
        for word in (*WORDS, *OTHERS, NOISE):
            (folder / word).mkdir()
        for split, name in LISTS.items():
            (folder / name).write_text("".join(sorted(f"{spoken.name}\n" for spoken in clips[split])))
        for kind in ("white", "pink", "brown"):
            (folder / NOISE / f"{kind}.wav").write_bytes(wav(0.1 * _noise(np.random.default_rng([seed, len(kind)]), kind, _NOISE_S)))
        with ThreadPoolExecutor(available_cores()) as pool:
            made = pool.map(lambda spoken: (folder / spoken.name).write_bytes(wav(_make(program, spoken))), every)
            for _ in tqdm(made, "speaking", len(every), unit="clip", disable=None):
                pass
    return len(every)


def _plan(variants: tuple[str, ...], accents: tuple[str, ...], takes: int, seed: int) -> "list[_Spoken]":
    return [
        _Spoken(word, accent, variant, take, seed)
        for word in (*WORDS, *OTHERS)
        for accent in accents
        for variant in variants
        for take in range(takes if word in WORDS else 1)
    ]


def _make(program: str, spoken: _Spoken) -> Samples:
    """One second: the word somewhere in it, over noise. All that is random is drawn from the clip's own name."""
    own = hashlib.sha256(f"{spoken.seed} {spoken.name}".encode()).digest()
    dice = np.random.default_rng(np.frombuffer(own, np.uint32))
    pitch, speed = int(dice.integers(*_PITCH)), int(dice.integers(*_SPEED))
    word = _trim(_say(program, spoken, pitch, speed))
    word *= dice.uniform(_QUIET, _LOUD) / max(1e-3, float(np.abs(word).max()))
    start = int(dice.integers(CLIP - len(word) + 1))
    samples = np.zeros(CLIP, np.float32)
    samples[start : start + len(word)] = word
    noise = _noise(dice, ("white", "pink", "brown")[dice.integers(3)], 1)
    level = float(np.sqrt(np.mean(samples**2))) * 10 ** (-dice.uniform(*_SNR_DB) / 20)
    mixed: Samples = samples + np.float32(level) * noise
    return mixed


def _say(program: str, spoken: _Spoken, pitch: int, speed: int) -> Samples:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        voice = f"{spoken.accent}+{spoken.variant}"
        command = [program, "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", file.name, spoken.word]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"espeak-ng cannot speak as {voice}: {done.stderr.strip() or done.returncode}")
        return read_wav(file.read())


def _trim(samples: Samples) -> Samples:
    """Without the silence around the word."""
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return clip(samples[loud[0] : loud[-1] + 1])[: loud[-1] + 1 - loud[0]] if len(loud) else samples[:CLIP]


def _noise(dice: np.random.Generator, kind: str, seconds: int) -> NDArray[np.float32]:
    """Noise with an RMS of 1, its power falling by 0, 3 or 6 dB an octave above 50 Hz."""
    count = seconds * RATE_HZ
    slope = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
    hertz = np.maximum(50, np.fft.rfftfreq(count, 1 / RATE_HZ))
    noise = np.fft.irfft(np.fft.rfft(dice.standard_normal(count)) / hertz**slope, count)
    scaled: NDArray[np.float32] = (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)
    return scaled
