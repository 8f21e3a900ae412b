// One generated text on paper: written token by token, with its confidence and its novelty to be seen.

import { make } from "./dom.js";
import { hideInspector, inspect, percent, visible } from "./inspector.js";

/** From sure to surprised, as probabilities; below the last one is the strongest shade. */
const SHADES = [0.6, 0.3, 0.12, 0.04, 0.01];

const shade = (logprob) => {
  const probability = Math.exp(logprob);
  const found = SHADES.findIndex((least) => probability >= least);
  return found < 0 ? SHADES.length : found;
};

const length = (text) => [...text].length; // in characters, as the gateway counts

export class Page {
  constructor(view = "plain") {
    this.tokens = [];
    this.text = "";
    this.details = null;
    this.opening = make("span", { class: "opening" });
    this.body = make("span", { class: "generated", role: "group", "aria-label": "Generated text" });
    this.element = make("div", { class: "text", lang: "en" }, this.opening, this.body);
    this.view = view;
    this.cursor = 0;
    this.pending = [];
    this.body.addEventListener("mouseover", (event) => this.#show(event.target));
    this.body.addEventListener("mouseleave", hideInspector);
    this.body.addEventListener("click", (event) => this.#show(event.target));
    this.body.addEventListener("focusin", (event) => this.#show(event.target));
    this.body.addEventListener("focusout", hideInspector);
    this.body.addEventListener("keydown", (event) => this.#walk(event));
  }

  set view(view) {
    this.element.dataset.view = view;
    this.#reachable();
  }

  get view() {
    return this.element.dataset.view;
  }

  begin(prompt) {
    this.opening.textContent = prompt;
    this.element.classList.add("writing");
    this.element.setAttribute("aria-busy", "true");
  }

  /** One event of a stream. Many tokens may come within one frame: they are drawn together. */
  add({ token, top_tokens: top, seed_word: word }) {
    if (word) this.#beginWith(word);
    this.tokens.push({ token, top });
    this.text += token.special ? "" : token.text;
    this.pending.push(this.#span(token, this.tokens.length - 1));
    if (this.pending.length === 1) requestAnimationFrame(() => this.#draw());
  }

  finish(event) {
    this.#draw();
    this.element.classList.remove("writing");
    this.element.removeAttribute("aria-busy");
    if (event?.details) {
      this.details = event.details;
      this.text = event.generated_text;
      this.#beginWith(event.details.seed_word);
      this.#markCopied(event.details.novelty);
    }
    this.#reachable();
  }

  get whole() {
    return this.opening.textContent + this.text;
  }

  // The word that the model chose where the page was left empty.
  #beginWith(word) {
    if (!word || this.opening.textContent) return;
    this.opening.textContent = word;
    this.opening.classList.add("chosen-word");
  }

  #draw() {
    this.body.append(...this.pending);
    this.pending = [];
  }

  #span(token, index) {
    return make(
      "span",
      { class: `token shade-${shade(token.logprob)}${token.special ? " special" : ""}`, dataset: { index }, tabindex: "-1" },
      token.special ? "" : token.text,
    );
  }

  #markCopied(novelty) {
    const end = novelty?.end ?? novelty?.stop;
    if (!novelty?.longest || end === undefined) return;
    let at = 0;
    for (const span of this.body.children) {
      const next = at + length(span.textContent);
      span.classList.toggle("shared", next > novelty.start && at < end);
      at = next;
    }
  }

  // One stop for the Tab key; the arrows then go from token to token.
  #reachable() {
    const spans = [...(this.body?.children ?? [])];
    const inspecting = this.view === "confidence" && !this.element.classList.contains("writing");
    spans.forEach((span, at) => {
      span.tabIndex = inspecting && at === Math.min(this.cursor, spans.length - 1) ? 0 : -1;
      if (inspecting) {
        const { token } = this.tokens[at];
        span.setAttribute("role", "img");
        span.setAttribute("aria-label", `${visible(token.text)}, ${percent(token.logprob)}`);
      } else {
        span.removeAttribute("role");
        span.removeAttribute("aria-label");
      }
    });
    if (!inspecting) hideInspector();
  }

  #show(target) {
    if (this.view !== "confidence" || !target.classList.contains("token")) return;
    hideInspector();
    inspect(target, this.tokens[target.dataset.index]);
  }

  #walk(event) {
    const spans = this.body.children;
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -spans.length, End: spans.length };
    if (this.view !== "confidence" || !(event.key in steps)) return;
    event.preventDefault();
    const from = Number(event.target.dataset.index);
    let to = Math.min(spans.length - 1, Math.max(0, from + steps[event.key]));
    // Tokens that show nothing (the first bytes of a letter) have no place to stand.
    while (spans[to].textContent === "" && to + Math.sign(steps[event.key]) in spans) to += Math.sign(steps[event.key]);
    spans[from].tabIndex = -1;
    spans[to].tabIndex = 0;
    this.cursor = to;
    spans[to].focus();
  }
}

/** The verdict in a sentence, or null when the answer says nothing of novelty. */
export function noveltySentence(novelty) {
  if (!novelty) return null;
  if (novelty.verdict === "unknown" || novelty.longest === undefined) {
    return { copy: false, known: false, text: "This model carries no index of its training text." };
  }
  const copy = novelty.exact_copy || novelty.verdict === "copy";
  const title = novelty.source?.title ? ` (${novelty.source.title})` : "";
  if (novelty.exact_copy) return { copy, known: true, text: `Stands word for word in the training text${title}` };
  const passage = `longest passage shared with the training text: ${novelty.longest} characters${title}`;
  return { copy, known: true, text: copy ? `Partly copied; ${passage}` : `New; ${passage}` };
}
