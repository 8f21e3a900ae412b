// Many short texts at once, names above all; each can be kept, and each can be followed by more of its kind.

import { $, announce, button, copy, make } from "./dom.js";
import { noveltySentence } from "./page.js";
import { answered, linkOf, requestOf } from "./requests.js";
import { copyButtons, droppedLine, star } from "./result.js";

const MORE = 6;
const WHOLE = { unique: true, return_full_text: true };

export class Listing {
  constructor({ shelf, runMore }) {
    this.shelf = shelf;
    this.runMore = runMore;
  }

  get empty() {
    return $("lists").childElementCount === 0;
  }

  async run(state, signal) {
    const request = requestOf(state, { n: state.count, ...WHOLE });
    const answers = await answered(request, signal);
    $("lists").replaceChildren(this.#group(state, request, answers, null));
    this.#noted(state, request, answers);
    return request.parameters.seed;
  }

  /** Another list under the first: the same settings and the category of `text`, with seeds of its own. */
  async more({ state, text, category }, signal) {
    const request = requestOf({ ...state, locked: false }, { n: MORE, ...WHOLE, ...(category ? { category } : {}) });
    const answers = await answered(request, signal);
    const group = this.#group(state, request, answers, text);
    $("lists").prepend(group);
    group.querySelector("h2").focus();
    this.#noted(state, request, answers);
    return null;
  }

  show(entry) {
    const state = { model: entry.model };
    const answers = entry.texts.map((generated_text) => ({ generated_text, details: {} }));
    $("lists").replaceChildren(this.#group(state, null, answers, null));
  }

  clear() {
    $("lists").replaceChildren();
  }

  #noted(state, request, answers) {
    announce(`${answers.length} new entries.`);
    const texts = answers.map((answer) => answer.generated_text);
    this.shelf.note({ mode: "list", model: state.model, hash: new URL(linkOf(state, request)).hash, prompt: state.prompt, texts });
  }

  #group(state, request, answers, likeness) {
    const texts = answers.map((answer) => answer.generated_text.trim());
    const kinds = new Set(answers.map(({ details }) => categoryName(details.category)));
    const [kind] = kinds;
    // What holds for all of them is said once.
    const shared = kinds.size === 1 && kind ? `, ${kind}` : "";
    const title = (likeness === null ? `${texts.length} from ${state.model}` : `More like ${likeness}`) + shared;
    return make(
      "section",
      { class: "group" },
      make("h2", { tabindex: "-1" }, title),
      droppedLine(answers[0]?.details),
      make("ol", { class: "entries" }, ...answers.map((answer, at) => this.#entry(state, answer, texts[at], kinds.size > 1))),
      make(
        "div",
        { class: "foot-actions" },
        button("Copy all", ({ currentTarget }) => copy(texts.join("\n"), currentTarget)),
        ...(request ? [
          button("Copy link", ({ currentTarget }) => copy(linkOf(state, request), currentTarget)),
          ...copyButtons(request),
        ] : []),
      ),
    );
  }

  #entry(state, { details }, text, tagged) {
    const category = categoryName(details.category);
    const novelty = noveltySentence(details.novelty);
    return make(
      "li",
      { class: "entry" },
      star(this.shelf, { text, model: state.model, category }),
      make("span", { class: "entry-text" }, text || "(empty)"),
      novelty?.copy ? make("span", { class: "known", title: novelty.text }, "partly copied") : null,
      category && tagged ? make("span", { class: "tag" }, category) : null,
      button("More like this", () => this.runMore({ state, text, category: details.category }), { class: "quiet more", "aria-label": `More like ${text}` }),
    );
  }
}

function categoryName(category) {
  if (!category) return "";
  return typeof category === "string" ? category : Object.keys(category).join(" + ");
}
