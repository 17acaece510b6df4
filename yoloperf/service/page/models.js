/** Which of the served models counts blood cells. */

const CELLS = /^(wbc|rbc|platelets?|(white|red) blood cells?|leu[ck]ocytes?|erythrocytes?|thrombocytes?)$/i;

function share({ classes }) {
  return classes.filter((name) => CELLS.test(name.replaceAll("_", " "))).length / classes.length;
}

/** The model whose classes are blood cells the most, undefined where none has any. */
export function bloodModel(models) {
  const best = models.toSorted((a, b) => share(b) - share(a))[0];
  return best && share(best) > 0 ? best : undefined;
}

/** The model to go to when blood cells are not wanted. */
export function plainModel(models) {
  const others = models.filter((model) => model !== bloodModel(models));
  return others.find((model) => model.default) ?? others[0];
}
