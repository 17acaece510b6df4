/** Where the time between the click and the boxes went. */

import { duration, element } from "./common.js";

const STAGES = [
  ["network", "network"],
  ["receive_s", "receive"],
  ["queue_s", "queue"],
  ["decode_s", "decode"],
  ["preprocess_s", "preprocess"],
  ["inference_s", "inference"],
  ["postprocess_s", "postprocess"],
  ["encode_s", "encode"],
];

/** Fill the panel from a picture's answer; the network's part is what the server did not spend. */
export function showTimes({ answer, elapsed }) {
  const { timing } = answer;
  const parts = STAGES.map(([key, title], k) => [title, key === "network" ? Math.max(0, elapsed - timing.total_s) : (timing[key] ?? 0), k]);
  document.getElementById("time-total").textContent = `${duration(elapsed)} in all, batch of ${timing.batch_size}`;
  document.getElementById("time-bar").replaceChildren(
    ...parts.map(([, seconds, k]) => {
      const bar = element("span", { className: `stage-${k}` });
      bar.style.flexBasis = `${(100 * seconds) / elapsed}%`;
      return bar;
    }),
  );
  document.getElementById("time-parts").replaceChildren(
    ...parts.map(([title, seconds, k]) =>
      element("div", {}, element("dt", {}, element("span", { className: `key stage-${k}` }), title), element("dd", {}, duration(seconds))),
    ),
  );
}
