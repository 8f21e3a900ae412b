"""The map of tokens: which ones a model treats alike, by PCA and by t-SNE."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch

from inkwell.bundle import Bundle
from inkwell.tokenizer import END_ID
from training.figures.album import MARKERS, PALETTE, Album, canvas, visible
from training.figures.inside import token_vectors

MOST_TOKENS = 600
_MOST_LABELS = 110
GROUPS = ("vowels", "consonants", "capitals", "digits", "words", "parts of words", "punctuation", "other")


def group_of(text: str) -> str:
    """The kind of token, for its colour: a letter by what it is, a longer piece by whether it begins a word."""
    if not text:
        return "other"
    if len(text) == 1 and text.isalpha():
        if text.isupper():
            return "capitals"
        plain = unicodedata.normalize("NFD", text)[0]
        return "vowels" if plain in "aeiouy" else "consonants"
    core = text.strip()
    if core.isdigit():
        return "digits"
    if core and core.replace("'", "").isalpha():
        return "words" if text[0] == " " or core[0].isupper() else "parts of words"
    if not core or all(unicodedata.category(c)[0] in "PSZ" for c in core):
        return "punctuation"
    return "other"


def draw(bundle: Bundle, album: Album, seed: int) -> None:
    """embedding.png, .svg, .csv"""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    vectors, kind = token_vectors(bundle.model)
    chosen = _most_used(bundle, len(vectors))
    values = vectors[chosen].numpy().astype(np.float64)
    texts = [bundle.tokenizer.decode([token]) for token in chosen]
    groups = [
        "end mark" if token == END_ID else group_of(text) for token, text in zip(chosen, texts, strict=True)
    ]
    pca = PCA(n_components=2).fit(values)
    flat = pca.transform(values)
    near = TSNE(
        n_components=2,
        perplexity=float(min(30, max(2, (len(values) - 1) // 4))),
        init="pca",
        metric="cosine",
        random_state=seed,
        max_iter=500,
    ).fit_transform(values)
    figure, axes = canvas(11.0, 5.4, 1, 2)
    shares = pca.explained_variance_ratio_
    titles = (
        f"PCA: the two widest directions, {shares.sum():.0%} of the spread",
        "t-SNE: neighbours by cosine",
    )
    for place, points, title in zip(axes[0], (flat, near), titles, strict=True):
        _scatter(place, points, groups)
        for index in readable(points, [visible(text) for text in texts]):
            place.annotate(
                visible(texts[index]),
                points[index],
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=7,
                color="#333333",
            )
        place.set_title(title)
        place.set_xticks([])
        place.set_yticks([])
    axes[0][1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="kind of token", fontsize=8)
    figure.suptitle(f"{bundle.config.name}: {kind} of {len(chosen)} tokens, {values.shape[1]} numbers each")
    album.save("embedding", figure)
    rows = zip(chosen, texts, groups, *flat.T.tolist(), *near.T.tolist(), strict=True)
    album.table("embedding", ["id", "text", "kind", "pca_1", "pca_2", "tsne_1", "tsne_2"], rows)


def _most_used(bundle: Bundle, size: int) -> list[int]:
    """All tokens, or the end mark and those that begin the list: byte-level BPE learns frequent pieces first."""
    usable = [
        token for token in range(size) if token == END_ID or "\ufffd" not in bundle.tokenizer.decode([token])
    ]
    return usable[:MOST_TOKENS]


def _scatter(place: object, points: np.ndarray, groups: Sequence[str]) -> None:
    colours, markers = (*PALETTE, "#B0B0B0"), (*MARKERS, "h")
    for number, name in enumerate([*GROUPS[:-1], "end mark", "other"]):
        rows = [index for index, group in enumerate(groups) if group == name]
        if rows:
            place.scatter(  # type: ignore[attr-defined]
                points[rows, 0],
                points[rows, 1],
                s=26,
                color=colours[number],
                marker=markers[number],
                edgecolors="white",
                linewidths=0.4,
                label=name,
            )


def readable(points: np.ndarray, labels: Sequence[str]) -> list[int]:
    """Which tokens get a label: first come, first served, as long as no two labels lie over one another. Sizes are
    shares of a panel: a letter is about 1.3 % of it wide, a line 3 % high."""
    low, high = points.min(0), points.max(0)
    places = (points - low) / np.where(high > low, high - low, 1.0)
    taken: list[tuple[float, float, float]] = []  # left, right, bottom
    kept: list[int] = []
    for index, ((x, y), label) in enumerate(zip(places.tolist(), labels, strict=True)):
        right = x + 0.006 + 0.013 * len(label)
        if all(right < left or x > end or abs(y - bottom) > 0.03 for left, end, bottom in taken):
            taken.append((x, right, y))
            kept.append(index)
        if len(kept) == _MOST_LABELS:
            break
    return kept


def neighbours(bundle: Bundle, token: int, count: int = 10) -> list[tuple[int, float]]:
    """The tokens nearest to `token` by cosine, nearest first, with their cosines."""
    vectors, _ = token_vectors(bundle.model)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    cosines = unit @ unit[token]
    cosines[token] = -2.0
    values, order = cosines.topk(min(count, len(vectors) - 1))
    return list(zip(order.tolist(), values.tolist(), strict=True))
