// What was kept and what was generated before, in this browser only.

import { $, button, copy, make, saveAs } from "./dom.js";
import { remember, remembered } from "./store.js";

const MOST_NOTES = 60;
const MOST_CHARACTERS = 6000; // of one text in the history

const same = (one, other) => one.text === other.text && one.model === other.model;

export class Shelf {
  constructor({ open }) {
    this.open = open;
    this.kept = listed("kept");
    this.history = listed("history");
    $("copy-kept").addEventListener("click", ({ currentTarget }) => copy(this.#asText(), currentTarget));
    $("save-kept").addEventListener("click", () => saveAs("inkwell.txt", `${this.#asText()}\n`));
    $("clear-history").addEventListener("click", () => {
      this.history = [];
      this.#save();
    });
    // Another tab may keep something too.
    addEventListener("storage", () => {
      this.kept = listed("kept");
      this.history = listed("history");
      this.#show();
    });
    this.#show();
  }

  keeps(item) {
    return this.kept.some((one) => same(one, item));
  }

  toggle(item) {
    this.kept = this.keeps(item) ? this.kept.filter((one) => !same(one, item)) : [{ ...item, at: Date.now() }, ...this.kept];
    this.#save();
  }

  note(entry) {
    const texts = entry.texts.map((text) => text.slice(0, MOST_CHARACTERS));
    this.history = [{ ...entry, texts, at: Date.now() }, ...this.history].slice(0, MOST_NOTES);
    this.#save();
  }

  #save() {
    remember("kept", this.kept);
    // A full store keeps the newer half rather than nothing.
    while (!remember("history", this.history) && this.history.length > 1) this.history.length = this.history.length >> 1;
    this.#show();
  }

  #asText() {
    return this.kept.map(({ text }) => text).join(this.kept.some(({ text }) => text.includes("\n")) ? "\n\n" : "\n");
  }

  #show() {
    $("kept").replaceChildren(...this.kept.map((item) => this.#keptItem(item)));
    $("history").replaceChildren(...this.history.map((entry) => this.#note(entry)));
    $("kept-tools").hidden = $("kept-empty").hidden = false;
    $("kept-tools").hidden = this.kept.length === 0;
    $("kept-empty").hidden = this.kept.length > 0;
    $("history-tools").hidden = this.history.length === 0;
    $("history-empty").hidden = this.history.length > 0;
  }

  #keptItem(item) {
    const about = [item.category, item.model].filter(Boolean).join(", ");
    return make(
      "li",
      {},
      make("span", { class: "kept-text" }, item.text),
      make("span", { class: "tag" }, about),
      button("Copy", ({ currentTarget }) => copy(item.text, currentTarget)),
      button("Let go", () => this.toggle(item), { "aria-label": `Let go of ${item.text.slice(0, 40)}` }),
    );
  }

  #note(entry) {
    const time = new Date(entry.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const short = entry.mode === "list" ? entry.texts.join(", ") : `${entry.prompt ?? ""}${entry.texts[0]}`;
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "note", on: { click: () => this.open(entry) } },
        make("time", { datetime: new Date(entry.at).toISOString() }, time),
        make("span", { class: "tag" }, entry.mode === "write" ? entry.model : `${entry.model}, ${entry.mode}`),
        make("span", { class: "note-text" }, short.trim().slice(0, 160) || "(empty)"),
      ),
    );
  }
}

function listed(name) {
  const found = remembered(name);
  return Array.isArray(found) ? found : [];
}
