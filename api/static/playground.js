// The playground: one state, three things to do with it, and the keys that do them.

import { ApiError, listModels } from "./api.js";
import { showCard } from "./card.js";
import { Comparing } from "./compare.js";
import { Controls } from "./controls.js";
import { $, announce, make } from "./dom.js";
import { hideInspector } from "./inspector.js";
import { askForKey, showKey } from "./key.js";
import { Listing } from "./list.js";
import { hideProblem, showProblem } from "./problem.js";
import { fresh, fromHash, toHash } from "./settings.js";
import { Shelf } from "./shelf.js";
import { Familiar } from "./words.js";
import { Writing } from "./write.js";

const VERBS = { write: "Write", compare: "Compare", list: "Make a list" };
const PROMPTS = {
  running: ["Begin with", "The harbour was quiet when …", "Leave it empty and the model begins with a word of its own."],
  documents: ["Begins with", "any letters", "Leave it empty for a free hand, or give the first letters."],
};
const THEMES = [null, "light", "dark"];

const state = fresh();
let models = [];
let running = null;

const shelf = new Shelf({ open: openNote });
const modes = {
  write: new Writing({ shelf, goOn }),
  compare: new Comparing({ shelf }),
  list: new Listing({ shelf, runMore: (what) => work((signal) => modes.list.more(what, signal)) }),
};
const controls = new Controls(state, keepAddress);
const familiar = new Familiar(beginWith);

const model = () => models.find(({ id }) => id === state.model);

// ---- the address -------------------------------------------------------------------------------------------

let addressTimer = null;

// Browsers refuse a page that rewrites its address at every move of a slider.
function keepAddress() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => history.replaceState(null, "", `#${toHash(state)}`), 250);
}

function readAddress() {
  const asked = fromHash(location.hash);
  const named = new URLSearchParams(location.hash.slice(1)).has("mode");
  if (asked.model && !models.some(({ id }) => id === asked.model)) {
    showProblem(new ApiError(`model ${asked.model} is not served here`, { kind: "model_not_found" }));
    asked.model = null;
  }
  asked.model ??= (models.find((one) => one.default) ?? models[0])?.id ?? null;
  Object.assign(state, asked);
  if (!named && !location.hash && listLike(model())) state.mode = "list";
  show();
}

// ---- showing -----------------------------------------------------------------------------------------------

// Models of short documents (names, items) have categories or a short limit; their texts are wanted by the dozen.
const listLike = (one) => one?.family === "names" || (one?.limits?.max_new_tokens ?? Infinity) <= 64;

function show() {
  const chosen = model();
  if (!chosen) return;
  $("model").value = chosen.id;
  showCard(chosen);
  controls.show(chosen);
  $("prompt").value = state.prompt;
  const [label, placeholder, hint] = PROMPTS[listLike(chosen) ? "documents" : "running"];
  $("prompt-label").textContent = label;
  $("prompt").placeholder = placeholder;
  $("prompt-hint").textContent = hint;
  familiar.show(chosen, state.prompt);
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    const selected = tab.dataset.mode === state.mode;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    $(`view-${tab.dataset.mode}`).hidden = !selected;
  }
  $("results").setAttribute("aria-labelledby", `tab-${state.mode}`);
  document.body.dataset.mode = state.mode;
  $("go-label").textContent = VERBS[state.mode];
  $("ornament").hidden = !modes[state.mode].empty;
  grow();
}

function grow() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + prompt.offsetHeight - prompt.clientHeight}px`;
}

function showModels() {
  $("model").replaceChildren(...models.map(({ id, state: how }) => make("option", { value: id }, how === "ready" ? id : `${id} (${how})`)));
}

// ---- doing -------------------------------------------------------------------------------------------------

/** `again` is what "Try again" does: the task itself, or it with what has been changed since. */
async function work(task, again = () => work(task)) {
  running?.abort();
  const mine = (running = new AbortController());
  hideProblem();
  hideInspector();
  busy(true);
  announce("Writing.");
  try {
    controls.showSeed(await task(mine.signal));
    keepAddress();
  } catch (error) {
    if (error.name === "AbortError") announce("Stopped.");
    else explain(error, again);
  } finally {
    if (running === mine) {
      running = null;
      busy(false);
    }
  }
}

function busy(is) {
  $("go").disabled = is;
  $("stop").hidden = !is;
  document.body.classList.toggle("busy", is);
  $("ornament").hidden = is || !modes[state.mode].empty;
}

function go() {
  if (!model()) return void start();
  if ($("seed").value.trim() && state.seed === null) {
    showProblem(new ApiError(`seed must be a whole number of 0 to ${Number.MAX_SAFE_INTEGER}; got ${$("seed").value}`, { kind: "validation" }));
    return;
  }
  const mode = modes[state.mode];
  // What is changed while a text is being written belongs to the next one.
  const asked = { ...state, values: { ...state.values }, categories: new Map(state.categories), temperatures: [...state.temperatures] };
  void work((signal) => mode.run(asked, signal), go);
}

function explain(error, again) {
  if (error.kind === "unauthorized") return askForKey(again, `The gateway says: ${error.message}. A key stays in this tab and is forgotten when the tab is closed.`);
  if (!(error instanceof ApiError)) console.error(error);
  const retry = ["overloaded", "network", "generation", "incomplete_generation"].includes(error.kind);
  showProblem(error, retry ? { label: "Try again", run: again } : null);
}

function goOn(text) {
  state.prompt = text;
  modes.write.clear();
  show();
  keepAddress();
  $("prompt").focus();
  $("prompt").setSelectionRange(text.length, text.length);
  go();
}

function beginWith(word) {
  state.prompt = word;
  show();
  keepAddress();
  $("prompt").focus();
}

function openNote(entry) {
  running?.abort();
  history.replaceState(null, "", entry.hash);
  readAddress();
  modes[state.mode].show(entry);
  $("ornament").hidden = true;
  $("results").scrollIntoView({ block: "nearest" });
  announce("Shown from the history.");
}

function choose(mode) {
  state.mode = mode;
  running?.abort();
  show();
  keepAddress();
}

// ---- wiring ------------------------------------------------------------------------------------------------

function wire() {
  $("model").addEventListener("change", () => {
    state.model = $("model").value;
    running?.abort();
    Object.values(modes).forEach((mode) => mode.clear());
    hideProblem();
    if (listLike(model()) && state.mode === "write") state.mode = "list";
    if (!listLike(model()) && state.mode === "list") state.mode = "write";
    show();
    keepAddress();
  });
  $("prompt").addEventListener("input", () => {
    state.prompt = $("prompt").value;
    if (model()) familiar.show(model(), state.prompt);
    grow();
    keepAddress();
  });
  $("go").addEventListener("click", go);
  $("stop").addEventListener("click", () => running?.abort());
  $("problem-close").addEventListener("click", hideProblem);
  $("open-key").addEventListener("click", () => askForKey(start));
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  tabs.forEach((tab, at) => {
    tab.addEventListener("click", () => choose(tab.dataset.mode));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = tabs[(at + step + tabs.length) % tabs.length];
      choose(next.dataset.mode);
      next.focus();
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("key-dialog").open) {
      event.preventDefault();
      go();
    }
    if (event.key === "Escape" && !$("key-dialog").open && !hideInspector()) running?.abort();
  });
  addEventListener("hashchange", readAddress);
  addEventListener("resize", grow);
  $("theme").addEventListener("click", () => {
    const at = THEMES.indexOf(document.documentElement.dataset.theme ?? null);
    const next = THEMES[(at + 1) % THEMES.length];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    try {
      if (next) localStorage.setItem("inkwell.theme", next);
      else localStorage.removeItem("inkwell.theme");
    } catch {
      announce("The theme holds for this page only: this browser keeps nothing.");
    }
    showTheme();
  });
}

function showTheme() {
  const theme = document.documentElement.dataset.theme;
  $("theme").textContent = { light: "Light", dark: "Dark" }[theme] ?? "Auto";
  $("theme").setAttribute("aria-label", `Theme: ${theme ?? "as the system"}`);
}

async function start() {
  try {
    models = await listModels();
  } catch (error) {
    explain(error, start);
    return;
  }
  showModels();
  readAddress();
  if (!models.length) showProblem(new ApiError("the gateway serves no model", { kind: "model_not_found" }));
  document.body.dataset.ready = "true";
}

if (matchMedia("(max-width: 760px)").matches) {
  // On a phone the page comes first; the panels are opened when they are wanted.
  document.querySelectorAll(".settings details").forEach((panel) => (panel.open = panel.id === "category-panel"));
}
wire();
showTheme();
showKey();
void start();
