// The settings beside the page. Each control writes into `state` and then calls `changed`.

import { $, button, make } from "./dom.js";
import { COUNT, SLIDERS, seedOf } from "./settings.js";

/** A slider with its number beside it. `read` may give null: the model's own value, shown by `own`. */
function slider({ name, label, hint, min, max, step }, { read, write, own, field = name }) {
  const id = `slider-${name}`;
  const range = make("input", { type: "range", id, min, max, step, "aria-describedby": `${id}-hint` });
  const exact = make("input", { type: "number", class: "exact", step: "any", "aria-label": `${label}, exactly`, dataset: { field } });
  const element = make(
    "div",
    { class: "slider", dataset: { name } },
    make("label", { for: id }, label),
    exact,
    range,
    make("p", { class: "hint", id: `${id}-hint` }, hint),
  );
  const show = () => {
    const value = read() ?? own();
    range.value = value;
    if (exact !== document.activeElement) exact.value = value;
    const [low, high] = [Number(range.min), Number(range.max)];
    range.style.setProperty("--filled", `${((Math.min(high, Math.max(low, value)) - low) / (high - low || 1)) * 100}%`);
    element.classList.toggle("changed", read() !== null);
  };
  range.addEventListener("input", () => (write(Number(range.value)), show()));
  exact.addEventListener("input", () => (write(exact.value === "" ? null : Number(exact.value)), show()));
  exact.addEventListener("blur", show);
  return { element, range, show };
}

export class Controls {
  constructor(state, changed) {
    this.state = state;
    this.changed = changed;
    this.model = null;
    this.sliders = new Map();
    for (const one of SLIDERS) {
      const own = () => this.model?.defaults?.[one.name] ?? one.neutral;
      this.#addSlider($("sliders"), one, {
        read: () => state.values[one.name],
        write: (value) => (state.values[one.name] = value),
        own,
      });
    }
    this.#addSlider($("sliders"), COUNT, {
      read: () => (state.count === COUNT.neutral ? null : state.count),
      write: (value) => (state.count = value === null ? COUNT.neutral : Math.max(1, Math.round(value))),
      own: () => COUNT.neutral,
    });
    state.temperatures.forEach((_, at) =>
      this.#addSlider($("temperatures"), { ...SLIDERS[0], name: `temperature-${at}`, label: ["Left", "Middle", "Right"][at], hint: "" }, {
        field: "temperature",
        read: () => state.temperatures[at],
        write: (value) => (state.temperatures[at] = value ?? 1),
        own: () => 1,
      }),
    );
    this.#wire();
  }

  /** Fit everything to `model` and to the state as it is now. */
  show(model) {
    this.model = model;
    const { state } = this;
    const longest = model.limits?.max_new_tokens ?? 400;
    this.sliders.get("max_new_tokens").range.max = Math.min(longest, 1000);
    this.sliders.get("top_k").range.max = Math.min(model.vocabulary ?? 100, 100);
    for (const { show } of this.sliders.values()) show();
    this.sliders.get(COUNT.name).element.hidden = state.mode !== "list";
    this.sliders.get("temperature").element.hidden = state.mode === "compare";
    $("compare-panel").hidden = state.mode !== "compare";
    for (const name of [...state.categories.keys()]) {
      if (!(model.categories ?? []).includes(name)) state.categories.delete(name);
    }
    $("category-panel").hidden = !model.categories?.length;
    this.#categories();
    $("seed").value = state.seed ?? "";
    this.#lock();
    $("seed-word").value = state.seedWord.strategy;
    $("seed-word-value").value = state.seedWord.value;
    this.#seedWord();
  }

  #addSlider(into, definition, access) {
    const write = (value) => (access.write(value), this.changed());
    const made = slider(definition, { ...access, write });
    this.sliders.set(definition.name, made);
    into.append(made.element);
  }

  #wire() {
    const { state } = this;
    $("reset").addEventListener("click", () => {
      for (const { name } of SLIDERS) state.values[name] = null;
      state.count = COUNT.neutral;
      for (const { show } of this.sliders.values()) show();
      this.changed();
    });
    $("category-filter").addEventListener("input", () => this.#categories());
    $("seed").addEventListener("input", () => {
      state.seed = seedOf($("seed").value);
      state.locked = state.seed !== null;
      $("seed").toggleAttribute("aria-invalid", $("seed").value.trim() !== "" && state.seed === null);
      this.#lock();
      this.changed();
    });
    $("lock").addEventListener("click", () => {
      state.locked = !state.locked && state.seed !== null;
      this.#lock();
      this.changed();
    });
    for (const id of ["seed-word", "seed-word-value"]) {
      $(id).addEventListener("input", () => {
        state.seedWord = { strategy: $("seed-word").value, value: $("seed-word-value").value };
        this.#seedWord();
        this.changed();
      });
    }
  }

  /** The seed of the last answer, so that it can be kept. */
  showSeed(seed) {
    if (this.state.locked || seed === undefined || seed === null) return;
    this.state.seed = seed;
    $("seed").value = seed;
    this.#lock();
  }

  #lock() {
    const { locked, seed } = this.state;
    $("lock").setAttribute("aria-pressed", String(locked));
    $("lock").textContent = locked ? "Locked" : "Lock";
    $("lock").disabled = seed === null;
    $("lock").title = locked ? "The same seed is used again: the same settings give the same text" : "Use this seed again";
  }

  #seedWord() {
    const { strategy } = this.state.seedWord;
    $("seed-word-value-field").hidden = strategy !== "letter" && strategy !== "nearest";
    $("seed-word-value-label").textContent = strategy === "letter" ? "Letter" : "Word";
    if (strategy) $("opening-panel").open = true;
  }

  #categories() {
    const { state } = this;
    const all = this.model?.categories ?? [];
    const wanted = $("category-filter").value.trim().toLowerCase();
    $("category-filter").hidden = all.length < 9;
    const chips = all
      .filter((name) => name.toLowerCase().includes(wanted))
      .map((name) => button(name, () => this.#toggle(name), { class: "chip", "aria-pressed": String(state.categories.has(name)) }));
    const focused = document.activeElement?.classList.contains("chip") ? document.activeElement.textContent : null;
    $("categories").replaceChildren(...(chips.length ? chips : [make("p", { class: "hint" }, "No category has that in its name.")]));
    chips.find((chip) => chip.textContent === focused)?.focus();
    const chosen = [...state.categories.keys()];
    $("category-count").textContent = chosen.length > 2 ? `${chosen.length} chosen` : chosen.join(", ") || "any";
    this.#weights();
  }

  #toggle(name) {
    if (!this.state.categories.delete(name)) this.state.categories.set(name, 1);
    this.#categories();
    this.changed();
  }

  // With one category there is nothing to weigh.
  #weights() {
    const { categories } = this.state;
    const shares = new Map();
    const share = () => {
      const total = [...categories.values()].reduce((sum, weight) => sum + weight, 0);
      for (const [name, output] of shares) output.textContent = `${Math.round((categories.get(name) / total) * 100)} %`;
    };
    const rows = categories.size < 2 ? [] : [...categories].map(([name, weight], at) => {
      const id = `weight-${at}`;
      const output = make("output", { for: id });
      const range = make("input", { type: "range", id, min: 0.1, max: 3, step: 0.1 });
      range.value = weight;
      const fill = () => range.style.setProperty("--filled", `${((range.value - 0.1) / 2.9) * 100}%`);
      range.addEventListener("input", () => {
        categories.set(name, Number(range.value));
        fill();
        share();
        this.changed();
      });
      fill();
      shares.set(name, output);
      return make("div", { class: "weight" }, make("label", { for: id }, name), output, range);
    });
    $("weights").replaceChildren(...rows);
    share();
  }
}
