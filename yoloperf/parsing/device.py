"""Samples of devices while a run lasted: means and peaks."""

from collections.abc import Iterable

from yoloperf.parsing.draft import Draft


class Device:
    """Samples by GPU. Of several, power and memory in use are summed and utilisation is averaged, as core.samples does."""

    def __init__(self) -> None:
        self.gpus: dict[str, _Gpu] = {}
        self.mixed = False  # rows of several GPUs, and nothing in them says which

    def sample(self, values: dict[str, float], gpu: str = "") -> None:
        """values: util (%), power (W), used and total (bytes), as far as known. gpu: its index, "" where the log says none.

        Raises OverflowError for a size that no integer holds.
        """
        self.gpus.setdefault(gpu, _Gpu()).add(values)

    def take(self, run: Draft) -> None:
        gpus = self.gpus.values()
        means = [mean for gpu in gpus if (mean := gpu.mean("util")) is not None]
        run.default("gpu_util_pct", sum(means) / len(means) if means else None)
        run.default("gpu_mem_bytes", max((gpu.sizes["total"] for gpu in gpus if "total" in gpu.sizes), default=None))
        if self.mixed or len(gpus) > 1 and "" in self.gpus:
            run.notes.append("GPU power and memory in use left empty: rows of several GPUs without their index")
            return
        run.default("gpu_power_w", _sum(gpu.mean("power") for gpu in gpus))
        run.default("gpu_mem_peak_bytes", _sum(gpu.sizes.get("used") for gpu in gpus))


class _Gpu:
    """Running means, and the highest sizes, of one GPU."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, values: dict[str, float]) -> None:
        sizes = {key: round(values[key]) for key in ("used", "total") if key in values}
        self.sizes |= {key: max(size, self.sizes.get(key, 0)) for key, size in sizes.items()}
        for name in ("util", "power"):
            if name in values:
                whole, count = self.sums.get(name, (0.0, 0))
                self.sums[name] = whole + values[name], count + 1

    def mean(self, name: str) -> float | None:
        whole, count = self.sums.get(name, (0.0, 0))
        return whole / count if count else None


def _sum(values: Iterable[float | None]) -> float | None:
    """Of what every GPU says; None where one says nothing."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if known and len(known) == len(found) else None
