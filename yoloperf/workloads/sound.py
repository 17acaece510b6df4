"""Clips of sound: WAV files to one second of samples at 16 kHz, and back."""

import io
import wave

import numpy as np
from numpy.typing import NDArray

from yoloperf.workloads.workload import Unusable

Samples = NDArray[np.float32]  # [n], from -1 to 1

RATE_HZ = 16_000
CLIP = RATE_HZ  # samples of a clip: one second

LONGEST_S = 10.0
_RATES_HZ = (8_000, 48_000)
_FULL_SCALE = 32_768
FORMAT = "send WAV, PCM with 16 bits, one channel"


def read_wav(data: bytes, longest_s: float = LONGEST_S) -> Samples:
    """Samples at 16 kHz. What the header claims is checked before anything of its size is allocated. Raises Unusable."""
    try:
        with wave.open(io.BytesIO(data)) as stream:
            channels, width, rate_hz, frames = stream.getparams()[:4]
            if channels != 1 or width != 2:
                raise Unusable(f"this WAV has {channels} channels of {8 * width} bits: {FORMAT}")
            if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
                raise Unusable(f"this WAV has {rate_hz} samples a second: send one with {_RATES_HZ[0]} to {_RATES_HZ[1]}")
            if 2 * frames > len(data):
                raise Unusable("this WAV ends before the samples that its header announces: send the whole file")
            if not frames:
                raise Unusable("this WAV has no samples: send at least a short sound")
            if frames > longest_s * rate_hz:
                raise Unusable(f"a sound may be {longest_s:g} s long, this one has {frames / rate_hz:.1f} s: cut it", too_large=True)
            content = stream.readframes(frames)
    except (wave.Error, EOFError, RuntimeError) as error:  # the last: a chunk of a negative size, as `wave` tells it
        raise Unusable(f"this is no readable sound: {FORMAT}") from error
    if len(content) < 2 * frames:
        raise Unusable("this WAV ends before the samples that its header announces: send the whole file")
    return resample(np.frombuffer(content, "<i2").astype(np.float32) / np.float32(_FULL_SCALE), rate_hz)


def wav(samples: Samples) -> bytes:
    """A WAV file of samples at 16 kHz; what is over full scale is cut."""
    content = io.BytesIO()
    with wave.open(content, "wb") as stream:
        stream.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        stream.writeframes(np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes())
    return content.getvalue()


def resample(samples: Samples, rate_hz: int) -> Samples:
    """To 16 kHz, by cutting or padding the spectrum: exact for a sound that repeats, and good for one with quiet ends."""
    if rate_hz == RATE_HZ:
        return samples
    # a length with small factors keeps the transform quick whatever the file's length is
    padded = np.concatenate([samples, np.zeros(-len(samples) % rate_hz, np.float32)])
    wanted = len(padded) * RATE_HZ // rate_hz
    spectrum = np.fft.rfft(padded)[: wanted // 2 + 1]
    resampled = np.fft.irfft(spectrum, wanted)[: max(1, len(samples) * RATE_HZ // rate_hz)]
    return (resampled * (wanted / len(padded))).astype(np.float32)


def clip(samples: Samples) -> Samples:
    """One second [16000]: silence after what is shorter, the loudest second of what is longer."""
    if len(samples) <= CLIP:
        return np.pad(samples, (0, CLIP - len(samples)))
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    start = int(np.argmax(power[CLIP:] - power[:-CLIP]))
    return samples[start : start + CLIP]
