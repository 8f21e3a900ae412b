// One text, streamed onto the page.

import { $, announce, button, copy, make } from "./dom.js";
import { Page } from "./page.js";
import { linkOf, requestOf, streamed } from "./requests.js";
import { copyButtons, droppedLine, facts, noveltyLine, star } from "./result.js";

const LEGENDS = {
  plain: [],
  confidence: [["shade-0", "sure"], ["shade-2", "likely"], ["shade-3", "unlikely"], ["shade-5", "a surprise"]],
  novelty: [["shared-key", "also in the training text"]],
};

export class Writing {
  constructor({ shelf, goOn }) {
    this.shelf = shelf;
    this.goOn = goOn;
    this.page = null;
    $("views").addEventListener("change", () => this.#look());
    this.#look();
  }

  get empty() {
    return this.page === null;
  }

  async run(state, signal) {
    const request = requestOf(state);
    const page = this.#fresh();
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
      // A later text may have taken the place of one that was stopped.
      if (this.page !== page) page.element.remove();
      else if (page.tokens.length === 0) this.clear();
      else this.#foot(state, request, page, performance.now() - began);
    }
    announce(`Finished: ${page.tokens.length} tokens.`);
    this.shelf.note({ mode: "write", model: state.model, hash: new URL(linkOf(state, request)).hash, prompt: page.opening.textContent, texts: [page.text] });
    return request.parameters.seed;
  }

  /** A text of the history: without its tokens, which are not kept. */
  show(entry) {
    const page = this.#fresh();
    page.begin(entry.prompt ?? "");
    page.body.textContent = page.text = entry.texts[0];
    page.finish(null);
    this.element.append(make("div", { class: "foot" }, make("p", { class: "facts" }, "From the history. With the seed kept, the same settings write it again.")));
  }

  clear() {
    this.page = null;
    $("write-text").replaceChildren();
    $("write-toolbar").hidden = true;
  }

  get element() {
    return $("write-text");
  }

  #fresh() {
    this.page = new Page($("views").querySelector(":checked").value);
    this.element.replaceChildren(this.page.element);
    $("write-toolbar").hidden = false;
    return this.page;
  }

  #look() {
    const view = $("views").querySelector(":checked").value;
    if (this.page) this.page.view = view;
    $("legend").replaceChildren(...LEGENDS[view].map(([shade, text]) => make("span", { class: `key ${shade}` }, text)));
  }

  #foot(state, request, page, milliseconds) {
    const kept = { text: page.whole, model: state.model };
    const link = linkOf(state, request);
    this.element.append(
      make(
        "div",
        { class: "foot" },
        make("p", { class: "facts" }, facts(page.details, milliseconds)),
        droppedLine(page.details),
        noveltyLine(page.details?.novelty),
        make(
          "div",
          { class: "foot-actions" },
          star(this.shelf, kept, "this text"),
          button("Go on from here", () => this.goOn(page.whole), { class: "quiet go-on" }),
          button("Copy text", ({ currentTarget }) => copy(page.whole, currentTarget)),
          button("Copy link", ({ currentTarget }) => copy(link, currentTarget)),
          ...copyButtons(request),
        ),
      ),
    );
  }
}
