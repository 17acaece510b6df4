"""What the runs say about money and energy. An amount needs a price, and an energy its source: what is guessed has no say."""

from collections.abc import Sequence

from yoloperf.core.record import RunRecord
from yoloperf.report.cost import priced, priced_time, prices_said
from yoloperf.report.evidence import Case, Facet, Finding, Measure, cells, middle, names


def cost_findings(runs: Sequence[RunRecord]) -> list[Finding]:
    return [fastest_is_cheapest(runs), fastest_needs_least_energy(runs)]


def fastest_is_cheapest(runs: Sequence[RunRecord]) -> Finding:
    """The platform with the least time is the one with the least cost, at the same model, batch size and epochs; one currency only."""
    items = priced(runs)
    costs = {id(item.run): item.cost for item in items}
    currencies = {item.card.currency for item in items if item.card and item.cost is not None}
    cost = Measure("cost", lambda run: costs[id(run)])
    claim = "The fastest platform is the cheapest, too"
    facet = _fastest_has_least(runs, cost) if len(currencies) == 1 else Facet(cost.title, [])
    lacking = "" if facet.cases else "needs runs on two platforms with prices in one currency: "
    return Finding("cheapest-platform", claim, [facet], lacking + "; ".join(prices_said(items)))


def fastest_needs_least_energy(runs: Sequence[RunRecord]) -> Finding:
    """The same of energy as measured on the GPU; processors' is another quantity."""
    measured = [run for run in runs if run.energy_source and run.energy_source != "rapl"]
    facet = _fastest_has_least(measured, Measure("energy", lambda run: run.energy_j))
    sources = ", ".join(sorted({str(run.energy_source) for run in measured}))
    lacking = "needs runs on two platforms whose GPUs' energy was measured"
    note = f"energy of the whole device, measured by: {sources}" if facet.cases else lacking
    return Finding("least-energy-platform", "The fastest platform needs the least energy", [facet], note)


def _fastest_has_least(runs: Sequence[RunRecord], measure: Measure) -> Facet:
    """Cells in which two platforms or more have both a time and a value. Equal values say nothing."""
    cases = []
    time = priced_time(runs) if runs else measure
    for where, platforms in cells(runs, ("model", "batch_size", "epochs"), "platform"):
        found = {name: (middle(part, time), middle(part, measure)) for name, part in platforms.items()}
        known = {name: (one, two) for name, (one, two) in found.items() if one is not None and two is not None}
        if len({two for _, two in known.values()}) > 1:
            fastest = min(known, key=lambda name: known[name][0])
            cheapest = min(known, key=lambda name: known[name][1])
            ratio = known[fastest][1] / known[cheapest][1] if known[cheapest][1] else None
            text = where if fastest == cheapest else f"{where}: fastest on {fastest}, least {measure.title} on {cheapest}"
            cases.append(Case(text, fastest == cheapest, names(*platforms.values()), ratio))
    return Facet(measure.title, cases)
