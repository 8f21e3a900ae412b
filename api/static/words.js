// Words of its own text that a model knows well, offered while the page is empty.

import { $, button } from "./dom.js";

const GROUPS = 7; // the sample is dealt into so many, each from the frequent to the rare

export class Familiar {
  /** `begin(word)` puts a word onto the page. */
  constructor(begin) {
    this.begin = begin;
    this.words = [];
    this.group = 3;
    $("familiar-others").addEventListener("click", () => {
      this.group = (this.group + 1) % GROUPS;
      this.#deal();
    });
  }

  /** Fit what is offered to `model`, whose page begins with `prompt`. */
  show(model, prompt) {
    const words = model.seed_word_sample ?? [];
    if (words.join() !== this.words.join()) {
      this.words = words;
      this.#deal();
    }
    $("familiar").hidden = words.length === 0 || prompt !== "";
    $("familiar-others").hidden = words.length <= GROUPS;
  }

  #deal() {
    const groups = this.words.length <= GROUPS ? 1 : GROUPS;
    const dealt = this.words.filter((_, at) => at % groups === this.group % groups);
    $("familiar-words").replaceChildren(...dealt.map((word) => button(word, () => this.begin(word), { class: "word", "aria-label": `Begin with ${word}` })));
  }
}
