import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from yoloperf.workloads.sound import CLIP, RATE_HZ, clip, read_wav, resample, wav
from yoloperf.workloads.spectrogram import FRAMES, MELS, filters, log_mel, mel
from yoloperf.workloads.workload import Unusable


def tone(hertz: float, rate_hz: int = RATE_HZ, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def riff(content: bytes = b"\0\0" * 100, channels: int = 1, rate_hz: int = RATE_HZ, bits: int = 16, kind: int = 1, data: int = -1) -> bytes:
    """A WAV file whose header says just that."""
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * block & 0xFFFFFFFF, block, bits)
    size = len(content) if data < 0 else data
    return b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt \x10\0\0\0" + head + b"data" + struct.pack("<I", size) + content


HOSTILE = {
    "empty": b"",
    "no WAV": b"RIFF....WAVE",
    "truncated header": riff()[:30],
    "no data": riff()[:36],
    "truncated data": riff()[:-50],
    "huge claimed size": riff(data=0x7FFFFFF0),
    "largest claimed size": riff(data=0xFFFFFFFF),
    "0 Hz": riff(rate_hz=0),
    "4 GHz": riff(rate_hz=0xFFFFFFFF),
    "8-bit": riff(bits=8),
    "0-bit": riff(bits=0),
    "stereo": riff(channels=2),
    "no channel": riff(channels=0),
    "NaN float": riff(struct.pack("<f", float("nan")) * 50, bits=32, kind=3),
    "no samples": riff(b""),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_wav_is_unusable(data: bytes) -> None:
    with pytest.raises(Unusable) as error:
        read_wav(data)
    assert not error.value.too_large and "\n" not in str(error.value)


def test_long_sound_is_too_large() -> None:
    with pytest.raises(Unusable, match="10 s long") as error:
        read_wav(wav(np.zeros(11 * RATE_HZ, np.float32)))
    assert error.value.too_large


@given(some.binary(max_size=60), some.integers(0, 60))
def test_damaged_wav_is_read_or_unusable(noise: bytes, place: int) -> None:
    whole = riff()
    try:
        samples = read_wav(whole[:place] + noise + whole[place + len(noise) :])
    except Unusable:
        return
    assert np.isfinite(samples).all()


@given(some.integers(1, 20_000), some.integers(0, 2**32 - 1))
def test_round_trip(count: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)
    np.testing.assert_allclose(read_wav(wav(samples)), samples, atol=1 / 32_000)
    assert clip(samples).shape == (CLIP,)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 47_999])
def test_resampled_tone_is_the_tone(rate_hz: int) -> None:
    content = io.BytesIO()
    with wave.open(content, "wb") as stream:
        stream.setparams((1, 2, rate_hz, 0, "NONE", ""))
        stream.writeframes((tone(440, rate_hz) * 32_767).astype("<i2").tobytes())
    np.testing.assert_allclose(read_wav(content.getvalue()), tone(440), atol=1e-3)


@given(some.integers(1, 3_000), some.integers(8_000, 48_000))
def test_resampling_keeps_the_length_in_seconds(count: int, rate_hz: int) -> None:
    assert len(resample(np.ones(count, np.float32), rate_hz)) == max(1, count * RATE_HZ // rate_hz)


def test_clip_takes_the_loudest_second() -> None:
    samples = np.zeros(3 * CLIP, np.float32)
    samples[20_000:30_000] = 0.5
    assert (clip(samples) != 0).sum() == 10_000


@pytest.mark.parametrize("hertz", [200, 440, 1000, 3000, 6000])
def test_a_tone_peaks_in_its_mel_band(hertz: float) -> None:
    seen = log_mel(tone(hertz))
    assert seen.shape == (FRAMES, MELS) and seen.dtype == np.float32
    peaks = np.linspace(mel(20.0), mel(7600.0), MELS + 2)[1:-1]
    nearest = int(np.argmin(np.abs(peaks - mel(hertz))))
    assert set(seen.argmax(1).tolist()) <= {nearest - 1, nearest, nearest + 1}
    assert abs(np.bincount(seen.argmax(1)).argmax() - nearest) <= 1


def test_spectrogram_of_a_batch_is_that_of_each_and_follows_the_power() -> None:
    sounds = np.random.default_rng(0).normal(0, 0.1, (3, CLIP)).astype(np.float32)
    together = log_mel(sounds)
    np.testing.assert_allclose(together[1], log_mel(sounds[1]), atol=1e-5)
    np.testing.assert_allclose(log_mel(2 * sounds) - together, np.log(4), atol=1e-2)
    assert np.isfinite(log_mel(np.zeros(CLIP, np.float32))).all()


def test_no_mel_band_is_empty() -> None:
    assert filters().shape == (257, MELS) and (filters().sum(0) > 0).all()
