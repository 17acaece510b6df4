"""A run while its log is read: what each format found, and how it all becomes one record."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from yoloperf.core.platforms import card_for
from yoloperf.core.record import SCHEMA_VERSION, STATUSES, EpochRecord, KernelRecord, RunRecord
from yoloperf.parsing.verdict import Cause, End, verdict

# Values of a KernelRecord after run_id, in its order. A plain tuple, because a log has hundreds of them.
KernelRow = tuple[str, str, str, int | None, float | None, float | None, float | None, float | None, float | None, str | None]

# Who says a value: a later name beats an earlier one
FILE_NAME, LOG = 0, 1
_ABSENT = object()
_LAST_EPOCH = ("box_loss", "obj_loss", "cls_loss", "dfl_loss")
_LAST_VALIDATION = ("precision", "recall", "map50", "map50_95")


@dataclass(frozen=True)
class Run:
    """One run that was read: rows of runs.csv, epochs.csv and kernels.csv."""

    record: RunRecord
    epochs: list[EpochRecord]
    kernels: list[KernelRow]

    def kernel_records(self) -> list[KernelRecord]:
        return [KernelRecord(self.record.run_id, *row) for row in self.kernels]


@dataclass(frozen=True)
class Rejected:
    """Something that was not read: a whole file, or one line of it (numbered from 1)."""

    path: str
    line: int | None
    reason: str


@dataclass
class Draft(End):
    """The run under construction. Formats write into it; `finish` is called once."""

    source: str
    whole_folder: bool = False  # a run folder is one run, however often its command was started
    line: int = 0  # number of the line being read
    cut: bool = False  # the line being read has no end: it may be half a line
    formats: dict[str, None] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kernels: list[KernelRow] = field(default_factory=list)
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    ended: bool = False  # see end()
    pending: dict[str, Any] = field(default_factory=dict)  # what formats have read that is the next run's
    carried: dict[str, Any] = field(default_factory=dict)  # what was pending in the run before
    epochs_seen: bool = False
    trainer_version: tuple[int, ...] | None = None
    unknown_lines: int = 0
    rejected_lines: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    _said: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> (rank, line) of the value in facts
    _contradicted: set[str] = field(default_factory=set)

    def set(self, name: str, value: Any, rank: int = LOG) -> None:
        """State a value of the run. Two different ones of equal rank contradict each other: then neither is kept."""
        if value is None or name in self._contradicted:
            return
        old = self.facts.get(name, _ABSENT)
        if old is _ABSENT or old == value:
            self.facts[name] = value
            self._said.setdefault(name, (rank, self.line))
            return
        old_rank, old_line = self._said[name]
        if rank == old_rank:
            del self.facts[name]
            self._contradicted.add(name)
            self.notes.append(f"{name} left empty: the log says {old} and {value}")
            self.reject(f"{name} {value} contradicts {name} {old} of line {old_line}: left empty")
        elif rank > old_rank:
            self.facts[name] = value
            self._said[name] = (rank, self.line)

    def default(self, name: str, value: Any) -> None:
        """State a value that something else may say better: it is only taken where nothing is known."""
        if value is not None and name not in self.facts:
            self.set(name, value)

    def forget(self, names: Iterable[str]) -> None:
        """Take back values that turned out to be another run's, or defaults."""
        for name in names:
            self.facts.pop(name, None)
            self._contradicted.discard(name)

    def replace(self, name: str, value: Any) -> None:
        """State a value that may change while the run goes on: the last one holds."""
        self.facts[name] = value
        self._said[name] = (LOG, self.line)

    def epoch(self, number: int) -> dict[str, Any]:
        """Values of an epoch (numbered from 1) by column name."""
        return self.epochs.setdefault(number, {})

    def end(self) -> None:
        """The command is over: a beginning of any kind belongs to the next run, and nothing that was read does."""
        self.ended = True
        self.pending.clear()

    def cause(self, status: str, reason: str, final: bool = False) -> None:
        """State why the run ended badly."""
        self.causes.append(Cause(status if status in STATUSES else "failed", reason, self.line, final))

    def reject(self, reason: str) -> bool:
        """Report the line being read as one that claims a format and cannot be read; counts it as dealt with."""
        self.rejected_lines += 1
        self.rejected.append(Rejected(self.source, self.line, reason))
        return True

    @property
    def empty(self) -> bool:
        return not self.formats

    def finish(self, run_id: str) -> Run:
        values = self._accounting()
        own = ("command", "exit_code") if self.whole_folder else ()  # of which run.json says more
        values |= {name: value for name, value in self.facts.items() if name not in values or name in own}
        values |= self._from_epochs()
        values |= self._biggest_kernel()
        values |= _utilisation(values)
        values = {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}
        status, reason = verdict(self)
        values.setdefault("status", status)
        if values["status"] == status:
            values.setdefault("reason", reason)
        epochs = [EpochRecord(**{**found, "run_id": run_id, "epoch": number}) for number, found in sorted(self.epochs.items())]
        record = RunRecord(
            **{
                **values,
                "run_id": run_id,
                "schema_version": SCHEMA_VERSION,
                "source": self.source,
                "format": "+".join(sorted(self.formats)) or None,
                "rejected_lines": self.rejected_lines,
                "unknown_lines": self.unknown_lines,
                "notes": "; ".join(dict.fromkeys(self.notes)) or None,
            }
        )
        return Run(record, epochs, self.kernels)

    def _accounting(self) -> dict[str, Any]:
        if not self.accounts:
            return {}
        if len(self.accounts) == self.facts.get("attempts", 1) == 1:
            account = self.accounts[0]
            found = {name: getattr(account, name) for name in ("user_s", "system_s", "wall_s", "cpu_percent", "command")}
            found["max_rss_bytes"] = _kib(account.max_rss_kib)
            found["exit_code"] = account.exit_code if account.signal is None else 128 + account.signal
        else:
            found = self._sum_of_attempts()
        return {name: value for name, value in found.items() if value is not None}

    def _sum_of_attempts(self) -> dict[str, Any]:
        last = self.accounts[-1]
        found: dict[str, Any] = {"command": last.command, "exit_code": last.exit_code if last.signal is None else 128 + last.signal}
        attempts = self.facts.get("attempts", len(self.accounts))
        if len(self.accounts) != attempts:
            self.notes.append(f"process times left empty: {attempts} attempts, of which {len(self.accounts)} are accounted for")
            return found
        for name in ("user_s", "system_s", "wall_s"):
            found[name] = _sum(getattr(account, name) for account in self.accounts)
        sizes = [account.max_rss_kib for account in self.accounts]
        found["max_rss_bytes"] = None if None in sizes else _kib(max(size for size in sizes if size is not None))
        if found["wall_s"] and found["user_s"] is not None and found["system_s"] is not None:
            found["cpu_percent"] = round(100 * (found["user_s"] + found["system_s"]) / found["wall_s"])
        self.notes.append(f"process times are sums over {attempts} attempts")
        return found

    def _from_epochs(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for names in (_LAST_EPOCH, _LAST_VALIDATION):
            for number in sorted(self.epochs, reverse=True):
                values = {name: self.epochs[number].get(name) for name in names}
                if any(value is not None for value in values.values()):
                    found |= {name: value for name, value in values.items() if value is not None}
                    break
        if self.epochs and "epochs_done" not in self.facts:
            found["epochs_done"] = len(self.epochs)
        peaks = [values["gpu_mem_peak_bytes"] for values in self.epochs.values() if values.get("gpu_mem_peak_bytes") is not None]
        if peaks and "gpu_mem_peak_bytes" not in self.facts:
            found["gpu_mem_peak_bytes"] = max(peaks)
        return found

    def _biggest_kernel(self) -> dict[str, Any]:
        """The row with the largest total: of the GPU where it was traced, else of the CPU's operators."""
        biggest: dict[str, KernelRow] = {}
        for row in self.kernels:
            total = row[4]
            if total is not None and (row[1] not in biggest or total > (biggest[row[1]][4] or 0.0)):
                biggest[row[1]] = row
        for domain in ("gpu", "cpu"):
            if domain in biggest:
                profiler, _, name, _, _, average, _, _, share, _ = biggest[domain]
                found: dict[str, Any] = {"profiler": profiler, "biggest_kernel_domain": domain, "biggest_kernel_name": name}
                found |= {"biggest_kernel_avg_s": average, "biggest_kernel_share": share}
                return {key: value for key, value in found.items() if value is not None}
        return {"profiler": self.kernels[0][0]} if self.kernels else {}


def _utilisation(values: Mapping[str, Any]) -> dict[str, Any]:
    """Model FLOPs utilisation (Chowdhery et al., PaLM, 2022) against the card of the device; nothing where a figure is unknown."""
    work, rate = values.get("flops_per_image"), values.get("images_per_s")
    if not work or not rate:
        return {}
    card = card_for(values.get("gpu_name"), values.get("cpu_name"))
    peak = card.peak(values.get("precision_mode")) if card else None
    return {"mfu": work * rate / (peak * (values.get("processes") or 1))} if peak else {}


def _sum(values: Iterable[float | None]) -> float | None:
    found = list(values)
    return None if None in found else round(sum(value for value in found if value is not None), 2)


def _kib(value: float | None) -> int | None:
    if value is None:
        return None
    whole, parts = value.as_integer_ratio()  # exact, and no float can be too large for it
    return whole * 1024 // parts
