"""Log-mel spectrograms: what a keyword network sees of a clip."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloperf.workloads.sound import CLIP, RATE_HZ

MELS = 40
WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
FRAMES = 1 + (CLIP - WINDOW) // HOP
_FFT = 512
_LOWEST_HZ, _HIGHEST_HZ = 20.0, 7_600.0
_FLOOR = 1e-6  # power of silence: keeps the logarithm finite


def mel(hertz: NDArray[Any] | float) -> NDArray[Any]:
    """O'Shaughnessy, Speech Communication (1987): 2595 log10(1 + f / 700)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, float) / 700.0)


@cache
def filters() -> NDArray[np.float32]:
    """Triangles [257, 40] over the bins of the transform, their feet at the neighbours' peaks, evenly spaced in mel
    (Davis and Mermelstein, IEEE Trans. ASSP 28, 1980)."""
    peaks = np.linspace(mel(_LOWEST_HZ), mel(_HIGHEST_HZ), MELS + 2)
    bins = mel(np.fft.rfftfreq(_FFT, 1 / RATE_HZ))[:, None]
    rising = (bins - peaks[:-2]) / (peaks[1:-1] - peaks[:-2])
    falling = (peaks[2:] - bins) / (peaks[2:] - peaks[1:-1])
    triangles: NDArray[np.float32] = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return triangles


@cache
def _window() -> NDArray[np.float32]:
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)


def log_mel(clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clips [..., 16000] -> natural logarithms of mel powers [..., 98, 40]."""
    frames = np.lib.stride_tricks.sliding_window_view(clips, WINDOW, -1)[..., ::HOP, :]
    spectrum = np.fft.rfft(frames * _window(), _FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    mels: NDArray[np.float32] = np.log(power @ filters() + np.float32(_FLOOR))
    return mels
