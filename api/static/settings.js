// Everything a person can choose, its form in a request, and its form in the address.

/** `min` to `max` is the sensible range of the slider; the number beside it takes whatever the gateway takes. */
export const SLIDERS = [
  { name: "temperature", short: "t", label: "Temperature", hint: "low: safe and plain; high: bold and strange", min: 0, max: 2, step: 0.05, neutral: 1 },
  { name: "top_p", short: "top_p", label: "Top-p", hint: "keeps the likeliest that together reach this share", min: 0.05, max: 1, step: 0.01, neutral: 1 },
  { name: "top_k", short: "top_k", label: "Top-k", hint: "keeps only so many of the likeliest; 0 is off", min: 0, max: 100, step: 1, neutral: 0 },
  { name: "min_p", short: "min_p", label: "Min-p", hint: "drops what is this much less likely than the best", min: 0, max: 0.5, step: 0.01, neutral: 0 },
  { name: "repetition_penalty", short: "rep", label: "Repetition penalty", hint: "above 1 discourages what was said already", min: 1, max: 2, step: 0.05, neutral: 1 },
  { name: "max_new_tokens", short: "len", label: "Length", hint: "in tokens, at most", min: 1, max: 400, step: 1, neutral: 100 },
];

export const COUNT = { name: "n", short: "n", label: "How many", hint: "in one list", min: 1, max: 40, step: 1, neutral: 12 };

/** The largest whole number that survives JSON in a browser. */
export const MAX_SEED = Number.MAX_SAFE_INTEGER;

export function fresh() {
  return {
    model: null,
    mode: "write",
    prompt: "",
    values: Object.fromEntries(SLIDERS.map((slider) => [slider.name, null])), // null: the model's own
    count: 12,
    categories: new Map(),
    seed: null,
    locked: false,
    seedWord: { strategy: "", value: "" },
    temperatures: [0.5, 0.8, 1.1],
  };
}

export const randomSeed = () => Number(crypto.getRandomValues(new BigUint64Array(1))[0] >> 16n);

/** The parameters that were chosen; what is left to the model is absent. */
export function parameters(state) {
  const chosen = {};
  for (const { name } of SLIDERS) if (state.values[name] !== null) chosen[name] = state.values[name];
  const categories = [...state.categories];
  if (categories.length === 1) chosen.category = categories[0][0];
  else if (categories.length > 1) chosen.category = Object.fromEntries(categories);
  if (state.locked && state.seed !== null) chosen.seed = state.seed;
  const { strategy, value } = state.seedWord;
  if (strategy && !state.prompt) {
    chosen.seed_word = strategy === "letter" || strategy === "nearest" ? { strategy, value } : { strategy };
  }
  return chosen;
}

export function toHash(state) {
  const query = new URLSearchParams();
  if (state.model) query.set("model", state.model);
  if (state.mode !== "write") query.set("mode", state.mode);
  if (state.prompt) query.set("prompt", state.prompt);
  for (const { name, short } of SLIDERS) if (state.values[name] !== null) query.set(short, state.values[name]);
  if (state.mode === "list") query.set(COUNT.short, state.count);
  if (state.mode === "compare") query.set("ts", state.temperatures.join(","));
  for (const [name, weight] of state.categories) query.append("c", weight === 1 ? name : `${name}:${weight}`);
  if (state.locked && state.seed !== null) query.set("seed", state.seed);
  const { strategy, value } = state.seedWord;
  if (strategy) query.set("word", value ? `${strategy}:${value}` : strategy);
  return query.toString();
}

/** What an address asks for; parts that make no sense are left out. */
export function fromHash(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const state = fresh();
  state.model = query.get("model");
  if (["compare", "list"].includes(query.get("mode"))) state.mode = query.get("mode");
  state.prompt = query.get("prompt") ?? "";
  for (const { name, short } of SLIDERS) if (query.has(short)) state.values[name] = finite(query.get(short));
  state.count = finite(query.get(COUNT.short)) ?? state.count;
  const temperatures = (query.get("ts") ?? "").split(",").map(finite);
  if (temperatures.length === 3 && !temperatures.includes(null)) state.temperatures = temperatures;
  for (const entry of query.getAll("c")) {
    const [, name, weight] = /^(.*?)(?::([0-9.]+))?$/s.exec(entry);
    if (name) state.categories.set(name, finite(weight) ?? 1);
  }
  state.seed = seedOf(query.get("seed") ?? "");
  state.locked = state.seed !== null;
  const [strategy, ...value] = (query.get("word") ?? "").split(":");
  state.seedWord = { strategy, value: value.join(":") };
  return state;
}

/** A seed as typed, or null when it is not a whole number that can be sent. */
export function seedOf(text) {
  const seed = Number(text.trim());
  return /^\d+$/.test(text.trim()) && seed <= MAX_SEED ? seed : null;
}

function finite(text) {
  const value = Number(text);
  return text === null || text === undefined || text === "" || !Number.isFinite(value) ? null : value;
}
