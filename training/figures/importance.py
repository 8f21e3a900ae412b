"""Which tokens a prediction rests on: input gradients, and an occlusion check beside them.

A gradient says how much the prediction would change if a token's vector were moved a little. Occlusion asks the
blunter question: how much less likely the prediction becomes when the token is not there. Where both agree, the
token mattered; where only the gradient is large, the model was touchy there but did not rely on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inkwell.bundle import Bundle
from training.figures.album import BLUE, ORANGE, Album, canvas
from training.figures.inside import condition_of, labels_of, token_vectors, with_inputs, write

MOST_TOKENS = 28


@dataclass(frozen=True)
class Importance:
    """Row i, column j: how much token j mattered to the prediction of token i + 1; 0 above the diagonal.
    `gradient` (T, T) is |∂ logit / ∂ vector|, `occlusion` (T, T) the fall of its log-probability in nats
    when token j is blanked out (negative when it becomes likelier)."""

    gradient: Tensor
    occlusion: Tensor

    def totals(self) -> tuple[Tensor, Tensor]:
        """Share of all importance that each token has, (T,) each; occlusion by size."""
        sums = self.gradient.sum(0), self.occlusion.abs().sum(0)
        gradient, occlusion = (total / total.sum().clamp_min(1e-12) for total in sums)
        return gradient, occlusion

    def agreement(self) -> float:
        """Rank correlation of the two over all pairs of a token and a later prediction."""
        from scipy.stats import spearmanr  # type: ignore[import-untyped]  # comes with scikit-learn

        rows, columns = torch.tril_indices(*self.gradient.shape)
        found = spearmanr(self.gradient[rows, columns].numpy(), self.occlusion.abs()[rows, columns].numpy())
        return float(found.statistic)


def importance(bundle: Bundle, ids: list[int], category: int = 0) -> Importance:
    """Both measures for the predictions of ids[1:]."""
    seen, targets = ids[:-1], torch.tensor(ids[1:])
    condition = condition_of(bundle.model, category)
    size = len(seen)
    row = torch.tensor([seen])
    logits, vectors = with_inputs(bundle.model, lambda: bundle.model(row, condition=condition).logits[0])
    gradient = torch.zeros(size, size)
    for place in range(size):
        (found,) = torch.autograd.grad(logits[place, targets[place]], vectors, retain_graph=True)
        gradient[place] = _per_token(found, size)
    gradient = gradient.tril()
    usual = _log_probabilities(logits.detach(), targets)
    # Blanked: the token is replaced by the average of all, which no text holds and which leans nowhere.
    average = token_vectors(bundle.model)[0].mean(0)
    occlusion = torch.zeros(size, size)
    for column in range(size):
        changed = _log_probabilities(_blanked(bundle, row, column, average, condition), targets)
        occlusion[:, column] = usual - changed
    return Importance(gradient, occlusion.tril())


def _per_token(found: Tensor, size: int) -> Tensor:
    """Lengths of the gradient by token. A window model looks each token up once per window it is in."""
    if found.dim() == 3 and found.shape[0] == 1:
        lengths: Tensor = found[0].norm(dim=-1)
        return lengths
    windows, width, _ = found.shape  # (T, W, E): window t ends at token t
    summed = torch.zeros(windows + width - 1, found.shape[2])
    for place in range(width):
        summed[place : place + windows] += found[:, place]
    lengths = summed[width - 1 :].norm(dim=-1)
    return lengths[:size]


@torch.no_grad()
def _blanked(bundle: Bundle, row: Tensor, column: int, average: Tensor, condition: Tensor | None) -> Tensor:
    """Logits (T, V) with token `column` blanked out."""
    model = bundle.model
    embedding = getattr(model, "embedding", None)
    hidden = torch.zeros_like(row[0], dtype=torch.bool)
    hidden[column] = True

    def blank(_module: object, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        place = hidden
        if inputs[0].dim() == 2 and inputs[0].shape[0] > 1:  # windows over the text, (T, W)
            width = inputs[0].shape[1]
            place = torch.nn.functional.pad(hidden, (width - 1, 0)).unfold(0, width, 1)
        elif output.dim() == 3:
            place = hidden[None]
        return torch.where(place[..., None], average.to(output.dtype), output)

    if embedding is not None:
        hook = embedding.register_forward_hook(blank)
    else:  # one-hot: the average of all unit vectors
        spread = torch.full((model.vocabulary,), 1.0 / model.vocabulary)
        hook = model.layers[
            0
        ].register_forward_pre_hook(  # type: ignore[union-attr,index]
            lambda _module, inputs: (torch.where(hidden[None, :, None], spread, inputs[0]), *inputs[1:])
        )
    try:
        logits: Tensor = model(row, condition=condition).logits[0]
    finally:
        hook.remove()
    return logits


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.double().log_softmax(-1).gather(1, targets[:, None])[:, 0].float()


def draw(bundle: Bundle, album: Album, seed: int, prompt: str = "") -> None:
    """importance.png, .svg, .csv"""
    ids, _, category = write(bundle, prompt, MOST_TOKENS, seed, min_new_tokens=6)
    ids = ids[: MOST_TOKENS + 1]
    found = importance(bundle, ids, category)
    labels = labels_of(bundle, ids)
    seen, wanted = labels[:-1], labels[1:]
    gradient, occlusion = found.totals()
    figure, axes = canvas(11.0, 6.6, 2, 2, height_ratios=(2.4, 1.0))
    pictures = (
        (found.gradient / found.gradient.amax(1, keepdim=True).clamp_min(1e-12), "viridis", 0.0, 1.0,
         "Gradient: |∂ logit / ∂ vector|, each row to its largest"),
        (found.occlusion, "PuOr_r", None, None, "Occlusion: nats lost when the token is blanked"),
    )  # fmt: skip
    for place, (values, colours, low, high, title) in zip(axes[0], pictures, strict=True):
        limit = float(values.abs().quantile(0.99)) or 1.0
        shown = values.masked_fill(torch.ones_like(values).triu(1).bool(), float("nan")).numpy()
        image = place.imshow(
            shown,
            cmap=colours,
            vmin=-limit if low is None else low,
            vmax=high or limit,
            interpolation="nearest",
        )
        figure.colorbar(image, ax=place, pad=0.01, shrink=0.8)
        place.set_title(title)
        place.set_xticks(range(len(seen)), seen, fontsize=7, rotation=90 if max(map(len, seen)) > 1 else 0)
        place.set_yticks(range(len(wanted)), wanted, fontsize=7)
        place.set_xlabel("token read")
        place.set_ylabel("token predicted")
    for place, shares, colour, title in (
        (axes[1][0], gradient, BLUE, "Share of all gradient"),
        (axes[1][1], occlusion, ORANGE, "Share of all occlusion"),
    ):
        place.bar(range(len(seen)), shares.tolist(), color=colour)
        place.set_xticks(range(len(seen)), seen, fontsize=7, rotation=90 if max(map(len, seen)) > 1 else 0)
        place.set_title(title)
    figure.suptitle(
        f"{bundle.config.name}: what each prediction rested on; the two agree to "
        f"{found.agreement():.2f} (Spearman over all pairs)"
    )
    album.save("importance", figure)
    album.table(
        "importance",
        ["predicted_place", "predicted", "read_place", "read", "gradient", "occlusion_nats"],
        (
            [i + 1, wanted[i], j, seen[j], float(found.gradient[i, j]), float(found.occlusion[i, j])]
            for i in range(len(seen))
            for j in range(i + 1)
        ),
    )
