/** Non-maximum suppression within classes: the server's rule, so that sliders act without asking it. */

/**
 * boxes: as the API gives them for iou=1 (nothing suppressed), best first. Returns those with a score above `confidence` of
 * which no better one of their class overlaps more than `iou`, best first: all of them, since they are counted.
 */
export function suppress(boxes, confidence, iou) {
  const lowest = Math.fround(confidence); // scores are single precision on the server
  const kept = [];
  const ofClass = new Map();
  for (const box of boxes) {
    if (Math.fround(box.score) <= lowest) break;
    const better = ofClass.get(box.class) ?? [];
    if (better.some((other) => overlap(other.box, box.box) > iou)) continue;
    better.push(box);
    ofClass.set(box.class, better);
    kept.push(box);
  }
  return kept;
}

/** Intersection over union of two boxes [x1, y1, x2, y2]. */
export function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  return shared / (area(a) + area(b) - shared);
}

function area([x1, y1, x2, y2]) {
  return (x2 - x1) * (y2 - y1);
}

/** Number of boxes by class name, most frequent first. */
export function count(boxes) {
  const counts = new Map();
  for (const { name } of boxes) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map([...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])));
}
