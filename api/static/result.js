// The lines under a finished text: how it went, how new it is, and what can be done with it.

import { button, copy, make, number } from "./dom.js";
import { noveltySentence } from "./page.js";
import { curl, python } from "./snippets.js";

const ENDINGS = { length: "reached the length asked for", eos_token: "came to its end", stop_sequence: "met a stop text" };

export function facts(details, milliseconds) {
  if (!details) return "Stopped. What was written so far stands.";
  const speed = milliseconds > 0 ? `, ${number((details.generated_tokens / milliseconds) * 1000)} a second` : "";
  const ending = ENDINGS[details.finish_reason] ?? details.finish_reason;
  return `${number(details.generated_tokens)} tokens${speed}; ${ending}. Seed ${details.seed}.`;
}

export function noveltyLine(novelty) {
  const found = noveltySentence(novelty);
  if (found === null) return null;
  const kind = !found.known ? "unknown" : found.copy ? "copy" : "new";
  return make("p", { class: `novelty ${kind}` }, make("span", { class: "dot", "aria-hidden": "true" }), found.text);
}

/** A line about letters of the beginning that the model has never seen, or null. */
export function droppedLine(details) {
  const dropped = details?.dropped_characters;
  if (!dropped) return null;
  return make("p", { class: "dropped" }, "This model does not know ", make("b", {}, [...dropped].join(" ")), ` and left ${[...dropped].length > 1 ? "them" : "it"} out of the beginning.`);
}

export const copyButtons = (request) => [
  button("Copy as curl", ({ currentTarget }) => copy(curl(request), currentTarget), { class: "quiet copy-curl" }),
  button("Copy as Python", ({ currentTarget }) => copy(python(request), currentTarget), { class: "quiet copy-python" }),
];

/** A star that is filled while `shelf` keeps `item`. */
export function star(shelf, item, name = item.text.slice(0, 40)) {
  const show = () => {
    const kept = shelf.keeps(item);
    element.setAttribute("aria-pressed", String(kept));
    element.textContent = kept ? "★" : "☆";
    element.title = kept ? "Kept; press to let go" : "Keep this";
  };
  const element = button("☆", () => (shelf.toggle(item), show()), { class: "star", "aria-label": `Keep ${name}` });
  show();
  return element;
}
