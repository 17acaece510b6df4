/** The events of a run as they come. By fetch, since EventSource cannot send a token. */

import { Problem, request } from "./common.js";

const AGAIN_MS = 2000;

/** Messages of a stream of server-sent events: {id, data}. */
export async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const message of whole) {
      const fields = Object.fromEntries(message.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
      if (fields.data) yield fields;
    }
  }
}

/** Events of a run, as objects, until it has ended. Goes on where it was when the connection is lost; `lost` hears of both. */
export async function* follow(id, signal, lost) {
  let behind = "0";
  while (!signal.aborted) {
    try {
      const response = await request(`api/training/${id}/events`, { signal, headers: { "Last-Event-ID": behind } });
      lost(null);
      for await (const message of messages(response.body)) {
        behind = message.id ?? behind;
        const event = JSON.parse(message.data);
        yield event;
        if (event.key === "state" && ["done", "failed", "cancelled"].includes(event.state)) return;
      }
    } catch (reason) {
      if (signal.aborted) return;
      if (reason instanceof Problem && !reason.busy && !reason.unreachable) throw reason;
      lost("The connection was lost. The training goes on; this page follows it again as soon as the service answers.");
    }
    await new Promise((go) => setTimeout(go, AGAIN_MS));
  }
}
