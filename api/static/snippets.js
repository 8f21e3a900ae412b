// The same request for a shell and for Python.

import { apiKey } from "./store.js";
import { base } from "./api.js";

const address = () => base.href.replace(/\/$/, "");

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

export function curl(body) {
  const key = apiKey() ? ` \\\n  -H "authorization: Bearer $INKWELL_API_KEY"` : "";
  return `curl -s ${address()}/generate -H 'content-type: application/json'${key} \\\n  -d ${quoted(JSON.stringify(body))}`;
}

export function python({ inputs, model, parameters }) {
  const key = apiKey() ? `, api_key=os.environ["INKWELL_API_KEY"]` : "";
  const given = [["model", model], ...Object.entries(parameters)].filter(([, value]) => value !== undefined);
  const lines = given.map(([name, value]) => `        ${name}=${literal(value)},\n`);
  if (inputs !== undefined) lines.unshift(`        ${literal(inputs)},\n`);
  const many = (parameters.n ?? 1) > 1;
  return (
    (key ? "import os\n\n" : "") +
    "from inkwell.client import Client\n\n" +
    `with Client(${literal(address())}${key}) as inkwell:\n` +
    (many
      ? `    answers = inkwell.generate_many(\n${lines.join("")}    )\nfor answer in answers:\n    print(answer.text)\n`
      : `    answer = inkwell.generate(\n${lines.join("")}    )\nprint(answer.text)\n`)
  );
}

function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    const entries = Object.entries(value).map(([name, inner]) => `${literal(name)}: ${literal(inner)}`);
    return `{${entries.join(", ")}}`;
  }
  return JSON.stringify(value); // JSON's strings and numbers are Python's too
}
