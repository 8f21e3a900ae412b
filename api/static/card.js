// The card of a model: what it is, how good it is, where it runs.

import { $, large, make, number } from "./dom.js";

const STATES = { ready: "ready", starting: "starting up", unavailable: "not available" };

export function showCard(model) {
  const rows = [
    ["State", make("span", { class: `state ${model.state}` }, STATES[model.state] ?? model.state)],
    ["Family", [model.family, model.version && `version ${model.version}`].filter(Boolean).join(", ")],
    ["Parameters", model.parameters && `${large(model.parameters)}`],
    ["Held-out loss", loss(model.metrics ?? {})],
    ["Learning", curve(model.metrics?.training?.curve)],
    ["Alphabet", model.vocabulary && `${number(model.vocabulary)} ${model.tokenizer === "chars" ? "characters" : `tokens${model.tokenizer ? ` (${model.tokenizer})` : ""}`}`],
    ["Categories", model.categories?.length ? number(model.categories.length) : null],
    ["Limits", limits(model)],
    ["Runs on", [device(model), model.runtime && model.runtime !== "torch" ? model.runtime : null, model.slots && `${model.slots} at a time`].filter(Boolean).join(", ")],
  ];
  $("card").replaceChildren(
    ...rows.filter(([, value]) => value).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
  );
  $("model-line").textContent = model.parameters
    ? `${large(model.parameters)} parameters on ${device(model) ?? "an unknown device"}${model.state === "ready" ? "" : `, ${STATES[model.state] ?? model.state}`}`
    : STATES[model.state] ?? "";
}

const device = ({ device: name }) => (name === "cpu" ? "the CPU" : name);

function loss(metrics) {
  const nats = metrics.validation?.nats_per_token ?? metrics.val_nats_per_token;
  const bits = metrics.validation?.bits_per_byte ?? metrics.val_bits_per_byte;
  const parts = [];
  if (nats !== undefined) parts.push(`${number(nats, 2)} nats a token`);
  if (bits !== undefined) parts.push(`${number(bits, 2)} bits a byte`);
  return parts.join(", ");
}

function limits({ limits: known = {} }) {
  const parts = [];
  if (known.max_new_tokens) parts.push(`${number(known.max_new_tokens)} new tokens`);
  if (known.max_prompt_tokens) parts.push(`${number(known.max_prompt_tokens)} in the prompt`);
  return parts.join(", ");
}

// Held-out loss over the training steps, as a line without axes: its shape is the message.
function curve(points) {
  const losses = (points ?? []).map(([step, , held]) => [step, held]).filter(([, held]) => Number.isFinite(held));
  if (losses.length < 4) return null;
  const [width, height] = [120, 26];
  const steps = losses.map(([step]) => step);
  const values = losses.map(([, held]) => held);
  const x = (step) => ((step - steps[0]) / (steps.at(-1) - steps[0] || 1)) * width;
  const span = Math.max(...values) - Math.min(...values) || 1;
  const y = (held) => height - 2 - ((held - Math.min(...values)) / span) * (height - 4);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const said = `Held-out loss from ${number(values[0], 2)} to ${number(values.at(-1), 2)} over ${number(steps.at(-1))} steps`;
  for (const [name, value] of [["viewBox", `0 0 ${width} ${height}`], ["class", "curve"], ["role", "img"], ["aria-label", said]]) svg.setAttribute(name, value);
  line.setAttribute("points", losses.map(([step, held]) => `${x(step).toFixed(1)},${y(held).toFixed(1)}`).join(" "));
  svg.append(line);
  return svg;
}
