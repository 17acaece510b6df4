"""Single activities summed into a kernel summary, in memory that grows with the names only."""

from yoloperf.parsing.draft import KernelRow
from yoloperf.parsing.operators import operator


class Summary:
    """Calls, total, shortest and longest time by name."""

    def __init__(self, profiler: str, domain: str) -> None:
        self.profiler, self.domain = profiler, domain
        self.rows: dict[str, list[float]] = {}

    def add(self, name: str, duration_s: float) -> None:
        row = self.rows.get(name)
        if row is None:
            self.rows[name] = [1, duration_s, duration_s, duration_s]
            return
        row[0] += 1
        row[1] += duration_s
        if duration_s < row[2]:
            row[2] = duration_s
        if duration_s > row[3]:
            row[3] = duration_s

    def kernels(self) -> list[KernelRow]:
        """Kernel rows, largest total first."""
        whole = sum(row[1] for row in self.rows.values())
        return [
            (
                self.profiler,
                self.domain,
                name,
                int(calls),
                total,
                total / calls,
                least,
                most,
                total / whole if whole else None,
                None if self.domain == "api" else operator(name),
            )
            for name, (calls, total, least, most) in sorted(self.rows.items(), key=lambda item: -item[1][1])
        ]
