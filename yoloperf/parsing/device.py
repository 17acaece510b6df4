"""Samples of a device while a run lasted: means and peaks."""

from yoloperf.parsing.draft import Draft


class Device:
    """Running means of utilisation (%) and power (W), peak and size of the memory (bytes), over all samples of all GPUs."""

    def __init__(self) -> None:
        self.sums = {"util": 0.0, "power": 0.0}
        self.counts = {"util": 0, "power": 0}
        self.used: float | None = None
        self.total: float | None = None

    def sample(self, values: dict[str, float]) -> None:
        for name in self.sums:
            if name in values:
                self.sums[name] += values[name]
                self.counts[name] += 1
        if "used" in values:
            self.used = max(self.used or 0.0, values["used"])
        if "total" in values:
            self.total = max(self.total or 0.0, values["total"])

    def take(self, run: Draft) -> None:
        for name, column in (("util", "gpu_util_pct"), ("power", "gpu_power_w")):
            if self.counts[name]:
                run.default(column, self.sums[name] / self.counts[name])
        run.default("gpu_mem_peak_bytes", None if self.used is None else round(self.used))
        run.default("gpu_mem_bytes", None if self.total is None else round(self.total))
