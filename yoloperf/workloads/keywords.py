"""Keyword recognition: which of a few words a one-second clip holds."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.workloads.network import KeywordNetwork
from yoloperf.workloads.sound import Samples, clip, read_wav
from yoloperf.workloads.spectrogram import FRAMES, MELS, log_mel
from yoloperf.workloads.workload import Computes

VERSION = 1
KIND = "keywords"


class Keywords:
    """A Workload."""

    kind: ClassVar[str] = KIND
    img_size: ClassVar[int | None] = None

    def __init__(self, network: KeywordNetwork, names: list[str]) -> None:
        self.network, self.names = network.eval(), names
        self.digest = digest(network.state_dict(), names)
        self.runtime = Computes()
        self.device = next(network.parameters()).device

    @classmethod
    def load(cls, path: Path, content: Any, device: torch.device) -> "Keywords":
        """content: what the file holds, read by torch. Raises UserError where it is damaged or of another version."""
        if content.get("version") != VERSION:
            raise UserError(f"{path} has version {content.get('version')} of keyword weights, not {VERSION}: train them again")
        try:
            names = [str(name) for name in content["names"]]
            network = KeywordNetwork(len(names))
            network.load_state_dict(content["state"])
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path} is damaged: its weights do not fit the network; train them again") from error
        if content.get("digest") != digest(network.state_dict(), names):
            raise UserError(f"{path} is damaged: its weights are not those that were written; train them again")
        return cls(network.to(device), names)

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """about: what is worth knowing of the training, numbers and words. Written as a whole or not at all."""
        buffer = io.BytesIO()
        state = {name: tensor.cpu() for name, tensor in self.network.state_dict().items()}
        torch.save({"kind": KIND, "version": VERSION, "names": self.names, "digest": self.digest, "state": state, "about": about}, buffer)
        write_atomic(path, buffer.getvalue())

    def warm_up(self, batch: int) -> None:
        for size in (1, batch):
            self.infer([np.zeros((FRAMES, MELS), np.float32)] * size)

    def decode(self, data: bytes) -> Samples:
        return read_wav(data)

    def prepare(self, decoded: Samples) -> NDArray[np.float32]:
        """[98, 40]."""
        return log_mel(clip(decoded))

    @torch.inference_mode()
    def infer(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        scores = self.network(torch.from_numpy(np.stack(inputs)).to(self.device))
        return scores.softmax(1).cpu().numpy()  # type: ignore[no-any-return]


def digest(state: dict[str, Tensor], names: Sequence[str]) -> str:
    """First 12 hex digits of the SHA-256 of class names and weights."""
    content = hashlib.sha256("\n".join(names).encode())
    for name in sorted(state):
        content.update(name.encode())
        content.update(state[name].cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
