// The npm clients against a gateway whose base URL is the first argument. Prints one JSON object: what each
// step saw, or the kind and message of the error it met. The test that starts this judges it.
import OpenAI from "openai";
import { InferenceClient } from "@huggingface/inference";

const base = process.argv[2];
const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none", maxRetries: 0 });
const hub = new InferenceClient(undefined, { endpointUrl: base });
const parameters = { seed: 4, temperature: 0.7, max_new_tokens: 14 };

const steps = {
  async openai_completes() {
    const made = await openai.completions.create({
      model: "prose", prompt: ["a", "b"], n: 2, seed: 4, max_tokens: 6, logprobs: 2, echo: true,
    });
    return {
      texts: made.choices.map((choice) => choice.text),
      first: made.choices[0].logprobs.token_logprobs[0],
      usage: made.usage,
    };
  },
  async openai_streams() {
    const stream = await openai.completions.create({
      model: "names", prompt: "abc", seed: 4, max_tokens: 20, stream: true,
      stream_options: { include_usage: true }, category: "elf", top_k: 5,
    });
    let text = "", usage = null, reason = null;
    for await (const chunk of stream) {
      if (chunk.choices.length) {
        text += chunk.choices[0].text;
        reason = chunk.choices[0].finish_reason ?? reason;
      }
      usage = chunk.usage ?? usage;
    }
    return { text, usage, reason };
  },
  async openai_leaves_a_stream() {
    const stream = await openai.completions.create({
      model: "prose", prompt: "abc", max_tokens: 150, stream: true,
    });
    let seen = 0;
    for await (const _ of stream) if (++seen === 1) break;
    return { seen };
  },
  async openai_lists_models() {
    const names = [];
    for await (const model of openai.models.list()) names.push(model.id);
    return { names, one: (await openai.models.retrieve("names")).id };
  },
  async openai_bad_request() {
    await openai.completions.create({ model: "prose", prompt: "a", temperature: -3 });
  },
  async openai_unknown_model() {
    await openai.completions.create({ model: "gpt-5", prompt: "a" });
  },
  async openai_failed_generation() {
    await openai.completions.create({ model: "prose", prompt: "explode" });
  },
  async openai_bad_stream() {
    await openai.completions.create({ model: "prose", prompt: "a", max_tokens: 100000, stream: true });
  },
  // Given a URL the client posts to its /v1/completions and renames the parameters.
  async hub_generates() {
    const made = await hub.textGeneration({ inputs: "abc", parameters });
    return { text: made.generated_text };
  },
  async hub_streams() {
    let text = "";
    for await (const event of hub.textGenerationStream({ inputs: "abc", parameters })) {
      text += event.choices[0]?.text ?? "";
    }
    return { text };
  },
  async hub_bad_request() {
    await hub.textGeneration({ inputs: "abc", parameters: { top_p: 7 } });
  },
  async hub_bad_stream() {
    for await (const _ of hub.textGenerationStream({ inputs: "abc", parameters: { top_p: 7 } }));
  },
  async hub_failed_generation() {
    await hub.textGeneration({ inputs: "explode" });
  },
};

const seen = {};
for (const [name, step] of Object.entries(steps)) {
  try {
    seen[name] = (await step()) ?? {};
  } catch (error) {
    seen[name] = {
      error: error.constructor.name,
      message: error.message,
      status: error.status ?? error.httpResponse?.status ?? null,
      code: error.code ?? null,
      param: error.param ?? null,
      body: error.httpResponse?.body ?? null,
    };
  }
}
console.log(JSON.stringify(seen));
