"""A run folder: run.json says what was asked and how it ended, the console and the profile say what happened."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloperf.core.record import RunRecord, columns
from yoloperf.core.rundir import RunDir
from yoloperf.core.samples import combine
from yoloperf.parsing.draft import Draft, KernelRow, Rejected, Run
from yoloperf.parsing.files import Unknown, read_file
from yoloperf.parsing.formats.device_samples import read_attempts, take
from yoloperf.parsing.formats.events import fits
from yoloperf.parsing.operators import operator
from yoloperf.parsing.sources import shown
from yoloperf.parsing.verdict import Account

_RUN = columns(RunRecord)
_IDENTITY = ("platform", "sweep", "trial")
_BESIDE = ("profiler", "profile_reason", "gpu_name", "driver", "gpu_mem_bytes", "gpu_mem_peak_bytes", "gpu_util_pct", "gpu_power_w")
_SPEC = ("batch_size", "epochs", "img_size", "accumulate", "lr_scale", "hyp", "seed", "workers", "threads", "weights")


def read_run_folder(folder: RunDir, unknown: Unknown | None = None) -> Iterator[Run | Rejected]:
    """The run of a folder: one Run, and what of it could not be read."""
    content = folder.read()
    if content is None:
        yield Rejected(shown(folder.run_json), None, "run.json is not readable as JSON: start the sweep again, which writes it anew")
        return
    draft = Draft(shown(folder.path), whole_folder=True)
    draft.formats["run-folder"] = None
    _take_run_json(draft, content)
    if folder.console.exists() and folder.console.stat().st_size:
        draft.source = shown(folder.console)  # so that rejected lines say where they stand
        yield from (item for item in read_file(folder.console, lambda: draft, unknown) if isinstance(item, Rejected))
        draft.source = shown(folder.path)
    _take_accounts(draft, content.get("attempts"))
    _take_profile(draft, folder)
    sampled = _take_resources(draft, folder, content.get("attempts"))
    yield from _take_beside(draft, folder, () if sampled else (folder.device_csv,))
    named = zip(_IDENTITY, folder.path.resolve().parts[-3:], strict=False)
    run = draft.finish("/".join(str(content.get(name) or part) for name, part in named))
    record = _judge(run.record, content)
    if record.tree_peak_bytes is not None and record.max_rss_bytes is not None:  # a peak between two samples
        peak = max(record.tree_peak_bytes, record.max_rss_bytes)
        record = replace(record, tree_peak_bytes=peak, uncounted_bytes=peak - record.max_rss_bytes)
    if record.tree_cpu_s is not None and record.user_s is not None and record.system_s is not None:
        waited_s = record.user_s + record.system_s
        record = replace(record, uncounted_cpu_s=max(record.tree_cpu_s - waited_s, 0.0))  # the samples end before the command does
    if "wall_s" in content:  # None where the end of an attempt was not seen: the trainer's event covers its last attempt only
        record = replace(record, wall_s=content["wall_s"])
    yield replace(run, record=record)
    yield from draft.rejected


def _take_run_json(draft: Draft, content: Mapping[str, Any]) -> None:
    spec = content.get("spec")
    environment = content.get("environment")
    _take(draft, spec if isinstance(spec, dict) else {}, _SPEC)
    _take(draft, environment if isinstance(environment, dict) else {}, tuple(_RUN))
    _take(draft, content, (*_IDENTITY, "spec_hash", "started_at", "wall_s", "exit_code", "profiler", "profile_reason"))
    attempts = content.get("attempts")
    if isinstance(attempts, list):
        draft.replace("attempts", len(attempts))
    argv = content.get("argv")
    if isinstance(argv, list):
        draft.replace("command", " ".join(map(str, argv)))


def _take(draft: Draft, values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if fits(_RUN, name, values.get(name)):
            draft.replace(name, values[name])


def _take_accounts(draft: Draft, attempts: Any) -> None:
    """One account an attempt: GNU time's block, or the kernel's figures where GNU time was killed; none unless all are there."""
    if not isinstance(attempts, list) or not all(isinstance(attempt, dict) for attempt in attempts):
        return
    blocks = iter(draft.accounts)
    accounts = [_account(attempt) if attempt.get("accounting") == "wait4" else next(blocks, None) for attempt in attempts]
    draft.accounts = [account for account in accounts if account is not None]


def _account(attempt: Mapping[str, Any]) -> Account:
    user_s, system_s, wall_s, rss = (
        float(value) if isinstance(value := attempt.get(key), int | float) else None
        for key in ("user_s", "system_s", "wall_s", "max_rss_bytes")
    )
    share = None if None in (user_s, system_s) or not wall_s else round(100 * ((user_s or 0) + (system_s or 0)) / wall_s)
    return Account(user_s=user_s, system_s=system_s, wall_s=wall_s, cpu_percent=share, max_rss_kib=None if rss is None else rss / 1024)


def _take_resources(draft: Draft, folder: RunDir, attempts: Any) -> bool:
    """What was sampled: as run.json sums it up and, for an attempt whose harness was killed, from its part of device.csv."""
    if not isinstance(attempts, list):
        return False
    found = [_sampled(attempt) for attempt in attempts]
    if not all(found):
        samples = Draft(shown(folder.device_csv))
        rest = read_attempts(folder.device_csv, samples)
        found = [each or (rest[number].resources() if number in rest else {}) for number, each in enumerate(found, 1)]
        draft.rejected += samples.rejected
        draft.formats |= samples.formats
    take(draft, combine(found))
    if draft.facts.get("gpu_name"):
        _note_what_is_missing(draft, attempts)
    return any(found)


def _sampled(attempt: Any) -> dict[str, Any]:
    resources = attempt.get("resources") if isinstance(attempt, dict) else None
    found = resources if isinstance(resources, dict) else {}
    known = {name: value for name, value in found.items() if fits(_RUN, name, value)}
    seconds = found.get("sampled_s")
    return known | ({"sampled_s": seconds} if isinstance(seconds, int | float) and not isinstance(seconds, bool) else {})


def _note_what_is_missing(draft: Draft, attempts: list[Any]) -> None:
    """Why the figures of a GPU that is there are empty."""
    names: dict[str, list[str]] = {}
    for attempt in attempts:
        resources = attempt.get("resources") if isinstance(attempt, dict) else None
        reasons = resources.get("reason") if isinstance(resources, dict) else None
        for name, why in reasons.items() if isinstance(reasons, dict) else ():
            if name in ("gpu", "energy_j", "throttled_share") or (name in _RUN and name.startswith("gpu_")):
                names.setdefault(str(why), []).append("GPU samples" if name == "gpu" else name)
    draft.notes += [f"{', '.join(dict.fromkeys(empty))} empty: {why}" for why, empty in names.items()]


def _take_beside(draft: Draft, folder: RunDir, device: tuple[Path, ...]) -> Iterator[Rejected]:
    """Other profilers' output (profile.*) and samples of the device, in whatever format they are."""
    for path in (*sorted(folder.path.glob("profile.*")), *device):
        if path == folder.profile or not path.is_file():
            continue
        for item in read_file(path, lambda path=path: Draft(shown(path))):  # type: ignore[misc]
            if isinstance(item, Rejected):
                yield item
                continue
            found = item.finish("")
            draft.kernels += item.kernels
            draft.formats |= item.formats
            draft.rejected += item.rejected
            for name in _BESIDE:
                draft.default(name, getattr(found.record, name))


def _judge(record: RunRecord, content: Mapping[str, Any]) -> RunRecord:
    """run.json's status holds, unless the log shows that the run failed or says more exactly why."""
    status, reason = content.get("status"), content.get("reason") or None
    if status == "running":
        return replace(record, status="incomplete", reason=reason or "run.json still says running")
    if status not in ("ok", "failed"):
        return replace(record, status=status, reason=reason) if status else record
    if record.status in (None, "ok", "incomplete") or (status == "failed" == record.status):
        return replace(record, status=status, reason=reason or (record.reason if status == "failed" else None))
    return replace(record, notes=_join(record.notes, f"run.json says {status}, the log {record.status}: the log is believed"))


def _join(*texts: str | None) -> str:
    return "; ".join(text for text in texts if text)


def _take_profile(draft: Draft, folder: RunDir) -> None:
    if not folder.profile.exists():
        return
    try:
        profile = json.loads(folder.profile.read_bytes())
        if not isinstance(profile, dict):
            raise ValueError("not an object")
        rows = [_kernel(profile, row) for row in profile.get("kernels") or []]
    except (OSError, ValueError, KeyError, TypeError) as error:
        draft.rejected.append(Rejected(shown(folder.profile), None, f"not a profile: {error}"))
        return
    total = sum(row[4] or 0.0 for row in rows)
    draft.kernels += [(*row[:8], row[4] / total if total and row[4] is not None else None, row[9]) for row in rows]
    if isinstance(profile.get("wall_s"), int | float):
        draft.replace("profile_s", float(profile["wall_s"]))
    if profile.get("reason"):
        draft.replace("profile_reason", str(profile["reason"]))


def _kernel(profile: Mapping[str, Any], row: Mapping[str, Any]) -> KernelRow:
    total, average, least, most = (None if row.get(key) is None else float(row[key]) for key in ("total_s", "avg_s", "min_s", "max_s"))
    name = str(row["name"])
    return str(profile["profiler"]), str(profile["domain"]), name, int(row["calls"]), total, average, least, most, None, operator(name)
