/** Curves over epochs, drawn in SVG. */

const NS = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 190, 40, 14, 8, 24];

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Round numbers of 1, 2 or 5 times a power of ten, from 0 to at least `most` in some `steps` steps. */
export function ticks(most, steps) {
  if (!(most > 0)) return [0, 1];
  const rough = most / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999);
  const count = Math.max(1, Math.ceil((most / step) * 0.999));
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

/**
 * series: [{name, points: [[epoch, value], ...]}], values of at least 0; epochs: how far the axis goes; ceiling: the value axis's end,
 * where it has one of its own.
 */
export function curves(title, series, epochs, ceiling = null) {
  const most = ceiling ?? Math.max(0, ...series.flatMap(({ points }) => points.map(([, value]) => value)));
  const levels = ticks(most, 4);
  const x = (epoch) => LEFT + ((WIDTH - LEFT - RIGHT) * epoch) / epochs;
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / levels.at(-1);
  const said = series.map(({ name, points }) => (points.length ? `${name} ${points.at(-1)[1].toPrecision(3)}` : `${name} not yet`));
  const drawing = svg("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${said.join(", ")}` });
  for (const level of levels) {
    drawing.append(
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(level), y2: y(level) }),
      svg("text", { x: LEFT - 6, y: y(level) + 4, "text-anchor": "end" }, String(level)),
    );
  }
  for (const epoch of ticks(epochs, 5).filter((each) => Number.isInteger(each) && each <= epochs)) {
    drawing.append(svg("text", { x: x(epoch), y: HEIGHT - 6, "text-anchor": "middle" }, String(epoch)));
  }
  series.forEach(({ points }, index) => {
    if (!points.length) return;
    const [epoch, value] = points.at(-1);
    drawing.append(
      svg("polyline", { class: `shade${index}`, points: points.map(([at, height]) => `${x(at).toFixed(1)},${y(height).toFixed(1)}`).join(" ") }),
      svg("circle", { class: `shade${index}`, cx: x(epoch), cy: y(value), r: 3 }),
    );
  });
  return drawing;
}

/** What a curve looks like, for a legend. */
export function swatch(index) {
  return svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, svg("line", { class: `shade${index}`, x1: 0, x2: 22, y1: 4, y2: 4 }));
}
