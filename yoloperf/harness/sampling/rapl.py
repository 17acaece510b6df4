"""Energy of the processors, from the kernel's powercap interface to RAPL (running average power limit).

The counters are those of whole packages, whoever uses them. Since 2020 only root may read them unless the administrator
opens them (CVE-2020-8694). What is not readable stays unknown: a figure from the thermal design power would be a guess.
"""

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/class/powercap")


@dataclass
class _Domain:
    """One counter in microjoules, which begins anew after `range_uj`."""

    file: Path
    range_uj: int
    last_uj: int

    def gone_uj(self) -> int:
        """What has been used since the last reading, which must not be longer ago than one round of the counter (a minute or more)."""
        now_uj = int(self.file.read_text())
        gone = now_uj - self.last_uj
        self.last_uj = now_uj
        return gone if gone >= 0 else gone + self.range_uj


class Rapl:
    """Energy since this object was made. `reason` says why there is none."""

    def __init__(self, root: Path = _ROOT) -> None:
        self.reason: str | None = None
        self._joules = 0.0
        self._domains: list[_Domain] = []
        try:
            for zone in sorted(root.glob("intel-rapl:*")):  # AMD's processors too; intel-rapl-mmio would count the packages twice
                name = (zone / "name").read_text().strip()
                if name.startswith("package") or name == "dram":  # core and uncore are parts of the package, psys is more than it
                    file = zone / "energy_uj"
                    self._domains.append(_Domain(file, int((zone / "max_energy_range_uj").read_text()), int(file.read_text())))
        except OSError as error:
            self._give_up(error)
        if not self._domains and self.reason is None:
            self.reason = "RAPL: no counter of the processors here, as in most virtual machines"

    def read_j(self) -> float | None:
        """Joules of all packages and, where it is counted apart, of the memory."""
        if self.reason is not None:
            return None
        try:
            self._joules += sum(domain.gone_uj() for domain in self._domains) / 1e6
        except OSError as error:
            self._give_up(error)
            return None
        return self._joules

    def _give_up(self, error: OSError) -> None:
        what = f"RAPL: {error.strerror}: {error.filename}"
        permission = isinstance(error, PermissionError)
        self.reason = f"{what}; root may open it to all with chmod a+r (CVE-2020-8694 is why it is closed)" if permission else what
