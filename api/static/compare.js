// The same beginning and the same seed at three temperatures, side by side.

import { $, announce, button, copy, make } from "./dom.js";
import { Page } from "./page.js";
import { linkOf, requestOf, streamed } from "./requests.js";
import { copyButtons, droppedLine, facts, noveltyLine, star } from "./result.js";

export class Comparing {
  constructor({ shelf }) {
    this.shelf = shelf;
    this.empty = true;
  }

  async run(state, signal) {
    const { seed } = requestOf(state).parameters;
    const columns = state.temperatures.map((temperature) => this.#column(temperature));
    this.empty = false;
    $("columns").replaceChildren(...columns.map(({ element }) => element));
    const ends = await Promise.allSettled(
      columns.map((column, at) => this.#fill(column, state, requestOf(state, { temperature: state.temperatures[at], seed }), signal)),
    );
    const failed = ends.find(({ status }) => status === "rejected");
    if (failed) {
      if (columns.every(({ page }) => page.tokens.length === 0)) this.clear();
      throw failed.reason;
    }
    announce("Finished: three texts.");
    const link = linkOf(state, { parameters: { seed } });
    this.shelf.note({ mode: "compare", model: state.model, hash: new URL(link).hash, prompt: state.prompt, temperatures: [...state.temperatures], texts: columns.map(({ page }) => page.text) });
    return seed;
  }

  show(entry) {
    this.empty = false;
    $("columns").replaceChildren(
      ...entry.texts.map((text, at) => {
        const { element, page } = this.#column(entry.temperatures?.[at] ?? "");
        page.begin(entry.prompt ?? "");
        page.body.textContent = page.text = text;
        page.finish(null);
        return element;
      }),
    );
  }

  clear() {
    this.empty = true;
    $("columns").replaceChildren();
  }

  #column(temperature) {
    const page = new Page("plain");
    const heat = make("input", { type: "checkbox", on: { change: () => (page.view = heat.checked ? "confidence" : "plain") } });
    const head = make(
      "header",
      {},
      make("h2", {}, make("span", { class: "degree" }, String(temperature)), " temperature"),
      make("label", { class: "check" }, heat, "Confidence"),
    );
    return { page, element: make("article", { class: "column", "aria-label": `Temperature ${temperature}` }, head, page.element) };
  }

  async #fill({ page, element }, state, request, signal) {
    page.begin(state.prompt);
    const began = performance.now();
    let last = null;
    try {
      await streamed(request, signal, (event) => {
        page.add(event);
        if (event.details) last = event;
      });
    } finally {
      page.finish(last);
      element.append(
        make(
          "div",
          { class: "foot" },
          make("p", { class: "facts" }, facts(page.details, performance.now() - began)),
          droppedLine(page.details),
          noveltyLine(page.details?.novelty),
          make(
            "div",
            { class: "foot-actions" },
            star(this.shelf, { text: page.whole, model: state.model }, `the text at temperature ${request.parameters.temperature}`),
            button("Copy text", ({ currentTarget }) => copy(page.whole, currentTarget)),
            ...copyButtons(request),
          ),
        ),
      );
    }
  }
}
