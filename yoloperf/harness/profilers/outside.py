"""What NVIDIA's profilers have in common: they stand outside the trainer and wait for it to mark a few steps.

The trainer calls cudaProfilerStart and Stop around steps of its own after the timed training, which is therefore
not recorded.
"""

from pathlib import Path


def train_flags(steps: int) -> list[str]:
    """Flags with which train.py marks `steps` steps after the training."""
    return ["--profile-steps", str(steps), "--profile-range"]


def literal(path: Path) -> str:
    """A path as these tools take it: they fill in %p, %h and %q{VARIABLE}, and %% is a per cent sign."""
    return str(path).replace("%", "%%")
