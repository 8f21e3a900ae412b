// From the chosen settings to what is sent: one request, and the plainer one that a person would copy.

import { ApiError, generate, stream } from "./api.js";
import { parameters, randomSeed, toHash } from "./settings.js";

// A word that the model begins with is shown as the beginning of the page, not again as part of the text.
const WATCHED = { details: true, top_n_tokens: 5, return_full_text: false };

// Models that refused to say how new their text is; asked once per visit.
const withoutNovelty = new Set();

/** What `state` asks for, with a seed, so that every answer can be had again. `more` wins over the state. */
export function requestOf(state, more = {}) {
  const seed = state.locked && state.seed !== null ? state.seed : randomSeed();
  const request = { model: state.model, parameters: { ...parameters(state), seed, ...more } };
  if (state.prompt) request.inputs = state.prompt;
  return request;
}

/** The address that leads to the same settings with the seed of `request` kept. */
export function linkOf(state, request) {
  const url = new URL(location.href);
  url.hash = toHash({ ...state, seed: request.parameters.seed, locked: true });
  return url.href;
}

/** Streams `request` and tells each event. */
export async function streamed(request, signal, onEvent) {
  const begun = { any: false };
  const tell = (event) => {
    begun.any = true;
    onEvent(event);
  };
  await markingNovelty(request, WATCHED, begun, async (body) => {
    for await (const event of stream(body, signal)) tell(event);
  });
}

/** The answers to `request`, always as a list. */
export async function answered(request, signal) {
  const found = await markingNovelty(request, {}, { any: false }, (body) => generate(body, signal));
  return Array.isArray(found) ? found : [found];
}

async function markingNovelty(request, extra, begun, send) {
  const asked = { ...request.parameters, ...extra };
  const marked = { ...asked, novelty: { mode: "mark" } };
  try {
    return await send({ ...request, parameters: withoutNovelty.has(request.model) ? asked : marked });
  } catch (error) {
    const refused = error instanceof ApiError && error.field === "novelty" && !withoutNovelty.has(request.model);
    if (!refused || begun.any) throw error;
    withoutNovelty.add(request.model);
    return send({ ...request, parameters: asked });
  }
}
