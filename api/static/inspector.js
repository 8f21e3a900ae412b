// What the model thought at one token: its probability and what else it considered.

import { $, make } from "./dom.js";

const panel = $("inspector");

const NAMES = new Map([[" ", "space"], ["\n", "new line"], ["\t", "tab"], ["", "(nothing visible)"]]);

export const visible = (text) => NAMES.get(text) ?? text.replaceAll("\n", "↵");

export const percent = (logprob) => {
  const share = Math.exp(logprob) * 100;
  return share >= 99.95 ? "100 %" : share >= 10 ? `${share.toFixed(0)} %` : share >= 0.1 ? `${share.toFixed(1)} %` : "< 0.1 %";
};

/** Shows the panel beside `anchor` for one token as the stream gave it, with `top` its alternatives. */
export function inspect(anchor, { token, top }) {
  const rows = (top ?? []).map((other) => row(other, other.id === token.id));
  if (!(top ?? []).some((other) => other.id === token.id)) rows.push(row(token, true));
  panel.replaceChildren(
    make("p", { class: "inspected" }, make("b", {}, token.special ? "end of text" : visible(token.text)), ` ${percent(token.logprob)}`),
    make("p", { class: "logprob" }, `log-probability ${token.logprob.toFixed(2)} nats`),
    make("ul", {}, ...rows),
  );
  panel.hidden = false;
  anchor.setAttribute("aria-describedby", "inspector");
  place(anchor);
}

export function hideInspector() {
  if (panel.hidden) return false;
  panel.hidden = true;
  document.querySelectorAll('[aria-describedby="inspector"]').forEach((one) => one.removeAttribute("aria-describedby"));
  return true;
}

function row(token, chosen) {
  const bar = make("span", { class: "bar" });
  bar.style.width = `${Math.max(1, Math.exp(token.logprob) * 100)}%`;
  return make(
    "li",
    { class: chosen ? "chosen" : "" },
    make("span", { class: "alternative" }, token.special ? "end of text" : visible(token.text), chosen ? make("span", { class: "unseen" }, " (chosen)") : null),
    make("span", { class: "track" }, bar),
    make("span", { class: "share" }, percent(token.logprob)),
  );
}

function place(anchor) {
  const box = anchor.getClientRects()[0] ?? anchor.getBoundingClientRect();
  const { width, height } = panel.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), document.documentElement.clientWidth - width - 8);
  const below = box.bottom + 10;
  const top = below + height < innerHeight ? below : Math.max(8, box.top - height - 10);
  panel.style.left = `${left + scrollX}px`;
  panel.style.top = `${top + scrollY}px`;
}
