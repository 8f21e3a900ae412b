// The gateway's routes, relative to the page, and its errors in words for people.

import { apiKey } from "./store.js";

export const base = new URL(".", document.baseURI);

/** `field` names the control that the message is about, when it is about one. */
export class ApiError extends Error {
  constructor(message, { status = 0, kind = "network", retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.kind = kind;
    this.retryAfter = retryAfter;
    this.field = kind === "validation" ? fieldOf(message) : null;
  }
}

function fieldOf(message) {
  const match = /^(?:parameters\.)?([a-z_]+)/.exec(message);
  return match === null ? null : match[1];
}

async function call(path, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  if (apiKey()) headers.authorization = `Bearer ${apiKey()}`;
  let response;
  try {
    response = await fetch(new URL(path, base), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The gateway cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  throw await errorOf(response);
}

async function errorOf(response) {
  const text = await response.text();
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy in between answers in its own words; the status has to do.
  }
  return new ApiError(typeof body.error === "string" ? body.error : `the server answered ${response.status}`, {
    status: response.status,
    kind: body.error_type ?? "http",
    retryAfter: Number(response.headers.get("retry-after")) || 0,
  });
}

const posted = (body, signal) => ({
  method: "POST",
  body: JSON.stringify(body),
  headers: { "content-type": "application/json" },
  signal,
});

export async function listModels() {
  return (await (await call("models")).json()).models;
}

export async function generate(body, signal) {
  return (await call("generate", posted(body, signal))).json();
}

/** The events of one stream, as objects. Throws `ApiError`, also for an error in mid-stream. */
export async function* stream(body, signal) {
  const response = await call("generate_stream", posted(body, signal));
  for await (const event of eventsOf(response.body)) {
    if (event.error !== undefined) throw new ApiError(event.error, { kind: event.error_type });
    yield event;
  }
}

/** Server-sent events: blocks end with an empty line, `data:` lines of a block belong together. */
export async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block
          .split("\n")
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5));
        if (data.length) yield JSON.parse(data.join("\n"));
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // already broken off: nothing left to cancel
  }
}
