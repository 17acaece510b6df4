"""Everything that follows from raw logs, as files of text: what a bundle holds beside them and what its verification makes anew."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, to_csv
from yoloperf.report import render
from yoloperf.report.compare import BY, match, metrics_of
from yoloperf.report.compare_verb import metric_result
from yoloperf.report.findings import findings
from yoloperf.report.findings_verb import finding_result
from yoloperf.report.load import Records, load
from yoloperf.report.predict import fits, held_out, median_error
from yoloperf.report.predict_verb import prediction_result
from yoloperf.report.tables import order, tables


def derive(paths: Sequence[Path]) -> dict[str, str]:
    """Name -> text of every table and finding of the logs at and below the paths. Raises UserError where there is no run."""
    records = load(paths)
    runs = order(records.runs)
    made = {"runs.csv": to_csv(RunRecord, runs)}
    made["epochs.csv"] = to_csv(EpochRecord, records.epochs)
    made["kernels.csv"] = to_csv(KernelRecord, records.kernels)
    made["table.md"] = render.markdown(tables(runs))
    made["findings.json"] = _json([finding_result(finding) for finding in findings(runs)])
    made["compare.json"] = _json({by: found for by in BY if (found := _or_none(lambda by=by: _compared(runs, by)))})  # type: ignore[misc]
    made["predict.json"] = _json(_or_none(lambda: _predicted(records)))
    return made


def _or_none(make: Callable[[], Any]) -> Any:
    """What cannot be asked of these records is absent."""
    try:
        return make()
    except UserError:
        return None


def _compared(runs: Sequence[RunRecord], by: str) -> dict[str, Any]:
    comparison = match(runs, by)
    return {
        "baseline": comparison.baseline,
        "metrics": [metric_result(comparison, metric) for metric in metrics_of(comparison)],
        "cautions": comparison.cautions,
        "without_counterpart": comparison.alone,
    }


def _predicted(records: Records) -> dict[str, Any]:
    tried = held_out(records.runs)
    return {
        "fits": [asdict(model) for model in fits(records.runs)],
        "held_out": {"median_error": median_error(tried), "runs": [prediction_result(item) for item in tried]},
    }


def _json(data: Any) -> str:
    return json.dumps(data, indent=1, allow_nan=False) + "\n"
