"""The model card: one page about a bundle for people."""

from __future__ import annotations

from inkwell.bundle import Bundle
from training.data.corpus import Corpus


def model_card(bundle: Bundle, corpus: Corpus) -> str:
    """Markdown: what the model is, what it learned from, how well, how to use it, what to be careful with."""
    config, metrics = bundle.config, bundle.metrics
    training, recipe = metrics["training"], config.training["recipe"]
    shape = ", ".join(f"{key} {value}" for key, value in config.model.items())
    lines = [
        f"# {config.name}",
        "",
        f"A small text generator of the family *{config.family}*, version {config.version}, made with Inkwell.",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {bundle.model.parameter_count():,} |",
        f"| shape | {shape} |",
        f"| tokens | {bundle.tokenizer.kind}, {bundle.tokenizer.size} ids |",
        f"| corpus | {corpus.name}: {len(corpus):,} documents, {corpus.characters:,} characters |",
        f"| corpus sha256 | `{corpus.sha256}` |",
        f"| training | {training['steps']:,} steps, {training['seconds']:,.0f} s "
        f"on {training['device']} ({training['machine']}) |",
    ]
    if "validation" in metrics:
        held = metrics["validation"]
        lines.append(
            f"| held-out loss | {held['nats_per_token']:.4f} nats/token, {held['bits_per_byte']:.4f} bits/byte |"
        )
    for source in corpus.sources:
        licence = f", {source.licence}" if source.licence else ""
        lines.append(f"| source | {source.name}{licence} |")
    if bundle.categories:
        lines += ["", "## Categories", "", ", ".join(bundle.categories)]
    lines += ["", "## Training", ""]
    lines += [f"Held-out split by seed {recipe['split']['seed']}; training seed {recipe['fit']['seed']}."]
    if teachers := recipe["fit"].get("teachers"):
        lines += [f"Learned from what these predict, beside the text: {', '.join(teachers)}."]
    lines += [f"- warning during training: {warning}" for warning in training["warnings"]]
    lines += [
        "",
        "## Use",
        "",
        "```",
        f'inkwell generate {config.name} "…"',
        "```",
        "",
        "It writes in the manner of its corpus and knows nothing else. Short passages can repeat the corpus word",
        "for word; ask for `novelty` to have that marked or refused.",
        "",
    ]
    return "\n".join(lines)
