"""Single activities summed into a kernel summary, in memory that grows with the names only."""

from yoloperf.parsing.draft import KernelRow
from yoloperf.parsing.operators import operator


class Summary:
    """Calls, total, shortest and longest time by name. Durations come in the profiler's unit, `per_s` of which make a second."""

    def __init__(self, profiler: str, domain: str, per_s: float = 1) -> None:
        self.profiler, self.domain, self.per_s = profiler, domain, per_s
        self.rows: dict[str, list[float]] = {}

    def add(self, name: str, duration: float) -> None:
        row = self.rows.get(name)
        if row is None:
            self.rows[name] = [1, duration, duration, duration]
            return
        row[0] += 1
        row[1] += duration
        if duration < row[2]:
            row[2] = duration
        if duration > row[3]:
            row[3] = duration

    def kernels(self) -> list[KernelRow]:
        """Kernel rows, largest total first."""
        whole = sum(row[1] for row in self.rows.values())
        return [
            (
                self.profiler,
                self.domain,
                name,
                int(calls),
                total / self.per_s,
                total / calls / self.per_s,
                least / self.per_s,
                most / self.per_s,
                total / whole if whole else None,
                None if self.domain == "api" else operator(name),
            )
            for name, (calls, total, least, most) in sorted(self.rows.items(), key=lambda item: -item[1][1])
        ]
