/** Boxes and labels on a canvas: the same for the screen and for the picture that is saved. */

// Okabe and Ito's palette, told apart with any kind of colour vision (jfly.uni-koeln.de/color); past its end lines are dashed
const COLOURS = ["#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];
const DASHES = [[], [7, 4], [2, 3]];
const FONT = 'px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif';
const SMALL = 500; // canvases below have smaller labels

/** Colour of a class's lines, of text on it, and its dashes. */
export function styleOf(label) {
  const colour = COLOURS[label % COLOURS.length];
  const [red, green, blue] = [1, 3, 5].map((start) => Number.parseInt(colour.slice(start, start + 2), 16));
  return {
    colour,
    ink: 0.299 * red + 0.587 * green + 0.114 * blue > 125 ? "#000" : "#fff",
    dash: DASHES[Math.floor(label / COLOURS.length) % DASHES.length],
  };
}

/**
 * Draw boxes over what is on the canvas. `scale`, `left`, `top` lead from the picture's pixels to the canvas's, `unit` is the
 * size of a screen pixel there, `labels` "score", "name" or "none"; all but `chosen` recede when one is chosen.
 */
export function paintBoxes(context, boxes, { scale = 1, left = 0, top = 0, unit = 1, labels = "score", chosen = null }) {
  const size = { width: context.canvas.width / unit, height: context.canvas.height / unit };
  context.font = `600 ${size.width < SMALL ? 10 : 12}${FONT}`;
  context.save();
  context.scale(unit, unit);
  const placed = boxes.map((box) => ({ box, at: box.box.map((value, k) => (value * scale + (k % 2 ? top : left)) / unit) }));
  for (const { box, at } of placed.toReversed()) outline(context, styleOf(box.class), at, box === chosen, chosen && box !== chosen);
  const first = placed.find(({ box }) => box === chosen);
  if (first) plate(context, first, "score", size, []);
  else if (labels !== "none") {
    const taken = [];
    for (const one of placed) plate(context, one, labels, size, taken);
  }
  context.restore();
}

function outline(context, { colour, ink, dash }, [x1, y1, x2, y2], thick, pale) {
  context.globalAlpha = pale ? 0.35 : 1;
  context.lineJoin = "round";
  context.setLineDash([]);
  context.lineWidth = thick ? 6 : 4;
  context.strokeStyle = ink === "#000" ? "rgb(0 0 0 / 55%)" : "rgb(255 255 255 / 80%)"; // a casing, for any ground
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.setLineDash(dash);
  context.lineWidth = thick ? 4 : 2;
  context.strokeStyle = colour;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.globalAlpha = 1;
}

/** The label above, in or below its box, where no better box's label is in the way; else nowhere. */
function plate(context, { box, at: [x1, y1, , y2] }, labels, size, taken) {
  const { colour, ink } = styleOf(box.class);
  const text = labels === "score" ? `${box.name} ${box.score.toFixed(2)}` : box.name;
  const high = size.width < SMALL ? 13 : 16;
  const width = context.measureText(text).width + 8;
  const x = Math.max(0, Math.min(x1 - 1, size.width - width));
  const places = [y1 - high - 1, Math.max(0, y1 + 1), y2 + 1].map((y) => [x, y, x + width, y + high]);
  const free = places.find((place) => place[1] >= 0 && place[3] <= size.height && !taken.some((other) => meet(place, other)));
  if (!free) return;
  taken.push(free);
  context.fillStyle = colour;
  context.fillRect(free[0], free[1], width, high);
  context.fillStyle = ink;
  context.textBaseline = "middle";
  context.fillText(text, free[0] + 4, free[1] + high / 2 + 0.5);
}

function meet(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}
