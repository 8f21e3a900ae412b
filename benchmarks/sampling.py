"""Microseconds of drawing one token for each of 64 rows: `inkwell.sampling` against how others do it.

Sides, all over the same logits, with the same settings for all rows:

* inkwell: penalties, filters and draw of `inkwell.sampling` with a plan made once, as the engine has it on the
  runtimes torch and onnx;
* native: the C++ core's, where it can be compiled, as the engine calls it for one step;
* Hugging Face: a list of logits processors, then softmax and `torch.multinomial`. transformers' own processors
  where it is installed, else the same steps written here;
* full sort: one sort of all logits, filters as masks in that order, and a draw by cumulative sums;
* others that `SIDES` names.

`÷ inkwell` is a side's time over inkwell's. The second table is what the sides take beside a decode step, without
sampling, of the model with as many tokens, on the fastest runtime here: the goal is 10 % at most.

    inkwell bench sampling [--rows 64] [--rounds 7] [--draws 20] [--threads 2] [--only 4000] [--cpu-time]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from engine import MODELS
from measure import JSON_HELP, Figure, Timing, clock_of, console, interleaved, note, record, show
from torch import Tensor

from inkwell.errors import RuntimeUnavailable
from inkwell.models import build_model
from inkwell.models.base import Decoder, LanguageModel
from inkwell.running import Cursor, Runner
from inkwell.runtimes import RUNTIMES, make_decoder
from inkwell.sampling import Counts, Plan, SamplingParams, adjust, sample

SETTINGS: dict[str, dict[str, float | int]] = {
    "temperature": {"temperature": 0.8},
    "top-k 50": {"temperature": 0.8, "top_k": 50},
    "top-k, top-p, penalty": {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.2},
}
MATCHING = {90: "lstm 2x512, V 90", 4000: "gru 3x1024, V 4000"}
"""The model, of those of `inkwell bench engine`, whose step is the measure of the sampling."""
HISTORY = 64
"""Tokens that each row has had so far, for the penalty."""


@dataclass(frozen=True)
class Case:
    """Logits (n, V) float32 of n rows, their history (n, HISTORY), and the parameters of all rows."""

    logits: Tensor
    history: Tensor
    params: SamplingParams

    @classmethod
    def make(cls, rows: int, vocabulary: int, settings: dict[str, float | int]) -> Case:
        random = torch.Generator().manual_seed(1)
        logits = 2.5 * torch.randn(rows, vocabulary, generator=random)  # the spread of a trained model's
        history = torch.randint(0, vocabulary, (rows, HISTORY), generator=random)
        return cls(logits, history, SamplingParams(**settings))  # type: ignore[arg-type]


Draw = Callable[[], Tensor]
"""One step: token ids (n,)."""


def inkwell(case: Case) -> Draw:
    rows, vocabulary = case.logits.shape
    plan = Plan(seeded(case), vocabulary, torch.device("cpu"))
    counts = counts_of(case)
    positions = torch.full((rows,), HISTORY)

    def draw() -> Tensor:
        positions.add_(1)
        return sample(adjust(case.logits, plan, counts), plan, positions)

    return draw


def native(case: Case) -> Draw:
    """The core draws for any logits of its vocabulary; the network that it belongs to is not run here."""
    rows, vocabulary = case.logits.shape
    runner = runner_of(vocabulary)
    runner.settle([runner.manner(params, stops=False) for params in seeded(case)])
    counts = counts_of(case)
    which = range(rows)
    position = HISTORY

    def draw() -> Tensor:
        nonlocal position
        position += 1
        cursors = [Cursor(position, 0, 0, 0, 1 << 30, 0)] * rows
        return torch.tensor(runner.draw(case.logits, cursors, counts, which, None)[0])

    return draw


def runner_of(vocabulary: int) -> Runner:
    """Of the smallest network with so many tokens. Raises `RuntimeUnavailable` where there is no compiler."""
    shape = {"architecture": "recurrent", "cell": "rnn", "hidden": 16, "layers": 1, "vocabulary": vocabulary}
    decoder, _ = make_decoder(build_model(shape).eval(), "native")
    if decoder.runner is None:
        raise RuntimeUnavailable("the native runtime draws no tokens here")
    return decoder.runner


def seeded(case: Case) -> list[SamplingParams]:
    """The case's parameters, with a seed for each row."""
    return [SamplingParams(**{**vars(case.params), "seed": row}) for row in range(len(case.logits))]


def counts_of(case: Case) -> Counts | None:
    """How often each token stands in the rows' history, where a penalty asks for it."""
    if not case.params.penalised:
        return None
    rows, vocabulary = case.logits.shape
    text = torch.zeros(rows, vocabulary).scatter_add_(1, case.history, torch.ones(rows, HISTORY))
    return Counts(torch.zeros(rows, vocabulary), text)


def hugging_face(case: Case) -> Draw:
    processors = processors_of(case.params)

    def draw() -> Tensor:
        scores = case.logits
        for processor in processors:
            scores = processor(case.history, scores)
        return torch.multinomial(scores.softmax(-1), 1)[:, 0]

    return draw


Processor = Callable[[Tensor, Tensor], Tensor]


def processors_of(params: SamplingParams) -> list[Processor]:
    """What `generate` of transformers would run, in its order: from the package, or as written here."""
    try:
        from transformers import generation as hf
    except ImportError:
        repetition, temperature, top_k, top_p = _penalise, _temper, _top_k, _top_p
    else:
        repetition, temperature = hf.RepetitionPenaltyLogitsProcessor, hf.TemperatureLogitsWarper
        top_k, top_p = hf.TopKLogitsWarper, hf.TopPLogitsWarper
    processors = []
    if params.repetition_penalty != 1.0:
        processors.append(repetition(params.repetition_penalty))
    processors.append(temperature(params.temperature))
    if params.top_k:
        processors.append(top_k(params.top_k))
    if params.top_p < 1.0:
        processors.append(top_p(params.top_p))
    return processors


def _penalise(penalty: float) -> Processor:
    def process(ids: Tensor, scores: Tensor) -> Tensor:
        score = scores.gather(1, ids)
        return scores.scatter(1, ids, torch.where(score < 0, score * penalty, score / penalty))

    return process


def _temper(temperature: float) -> Processor:
    return lambda _, scores: scores / temperature


def _top_k(count: int) -> Processor:
    def process(_: Tensor, scores: Tensor) -> Tensor:
        least = scores.topk(min(count, scores.shape[-1]))[0][..., -1, None]
        return scores.masked_fill(scores < least, float("-inf"))

    return process


def _top_p(mass: float) -> Processor:
    def process(_: Tensor, scores: Tensor) -> Tensor:
        ordered, order = scores.sort(descending=False)
        gone = ordered.softmax(-1).cumsum(-1) <= 1 - mass
        gone[..., -1:] = False
        return scores.masked_fill(gone.scatter(1, order, gone), float("-inf"))

    return process


def full_sort(case: Case) -> Draw:
    """Every row sorted whole, with parameters per row as a server has them."""
    rows, vocabulary = case.logits.shape
    params = case.params

    def column(value: float) -> Tensor:
        return torch.full((rows, 1), float(value))

    temperature, top_p, penalty = map(column, (params.temperature, params.top_p, params.repetition_penalty))
    top_k = column(params.top_k or vocabulary)
    seen = torch.zeros(rows, vocabulary, dtype=torch.bool).scatter_(1, case.history, True)
    rank = torch.arange(vocabulary)

    def draw() -> Tensor:
        logits = case.logits
        if params.penalised:
            logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        values, order = (logits / temperature).sort(-1, descending=True)
        probabilities = values.masked_fill(rank >= top_k, float("-inf")).softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        kept = probabilities.masked_fill((before >= top_p) & (rank > 0), 0.0)
        sums = kept.cumsum(-1)
        place = torch.searchsorted(sums, torch.rand(rows, 1) * sums[:, -1:]).clamp_(max=vocabulary - 1)
        return order.gather(1, place)[:, 0]

    return draw


SIDES: dict[str, Callable[[Case], Draw]] = {
    "inkwell": inkwell,
    "native": native,
    "Hugging Face": hugging_face,
    "full sort": full_sort,
}
"""All sides; a further one is one more line. The first is what the others are compared with."""
OURS = next(iter(SIDES))


def sides_here() -> dict[str, Callable[[Case], Draw]]:
    """All sides that run on this machine; what is missing is named."""
    sides = dict(SIDES)
    try:
        runner_of(2)
    except RuntimeUnavailable as error:
        console.print(f"without the side native: {error}", style="yellow", highlight=False, markup=False)
        del sides["native"]
    return sides


def repeated(draw: Draw, times: int) -> Callable[[], object]:
    def run() -> None:
        for _ in range(times):
            draw()

    return run


@dataclass(frozen=True)
class Step:
    """The decode step that sampling is measured by: of which model, on which runtime, and its rounds."""

    model: str
    runtime: str
    timing: Timing
    repeats: int = 5

    @property
    def seconds(self) -> float:
        return self.timing.median / self.repeats


def step_of(vocabulary: int, rows: int, rounds: int, clock: Callable[[], float]) -> Step:
    """The step of the matching model on the fastest runtime here, without sampling."""
    model = build_model(MODELS[MATCHING[vocabulary]]).eval()
    decoder, runtime = fastest(model)
    state, tokens = decoder.new_state(rows), torch.ones(rows, dtype=torch.long)

    def run() -> None:
        for _ in range(Step.repeats):
            decoder.step(tokens, state)

    return Step(MATCHING[vocabulary], runtime, interleaved({"step": run}, rounds, clock)["step"])


def fastest(model: LanguageModel) -> tuple[Decoder, str]:
    """A decoder of the first runtime that runs here, and its name: speed is asked for, not the same texts."""
    for name in RUNTIMES:
        try:
            return make_decoder(model, name)
        except RuntimeUnavailable as error:
            console.print(str(error), style="yellow", highlight=False, markup=False)
    raise SystemExit("no runtime can run this model")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--draws", type=int, default=20, help="steps in one round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", type=int, choices=sorted(MATCHING), help="this vocabulary")
    parser.add_argument("--cpu-time", action="store_true", help="only with --threads 1")
    parser.add_argument("--json", type=Path, help=JSON_HELP)
    options = parser.parse_args(arguments)
    clock, sides = clock_of(options), sides_here()
    torch.set_num_threads(options.threads)
    figures: list[Figure] = []
    lines: list[tuple[object, ...]] = []
    shares: list[tuple[object, ...]] = []
    for vocabulary in [options.only] if options.only else list(MATCHING):
        step = step_of(vocabulary, options.rows, options.rounds, clock)
        figures.append(Figure(step.model, step.runtime, step.timing.seconds, step.repeats, "step"))
        for label, settings in SETTINGS.items():
            case = Case.make(options.rows, vocabulary, settings)
            runs = {side: repeated(make(case), options.draws) for side, make in sides.items()}
            times = interleaved(runs, options.rounds, clock)
            what = f"{options.rows} x {vocabulary}, {label}"
            figures += [Figure(what, side, times[side].seconds, options.draws, "draw") for side in sides]
            seconds = {side: times[side].median / options.draws for side in sides}
            lines.append(
                (
                    what,
                    *(f"{value * 1e6:,.0f}" for value in seconds.values()),
                    *(f"{seconds[side] / seconds[OURS]:.1f}x" for side in sides if side != OURS),
                    f"±{times[OURS].spread:.0%}",
                )
            )
            model = f"{step.model}, {step.runtime}"
            part = (f"{value / step.seconds:.0%}" for value in seconds.values())
            shares.append((what, model, f"{step.seconds * 1e3:.2f}", *part))
    console.print(note(options.rounds, options.cpu_time), highlight=False)
    console.print(f"Hugging Face: {whose()}", highlight=False, markup=False)
    others = (f"{side} ÷ {OURS}" for side in sides if side != OURS)
    show("Sampling, microseconds per step", ("rows x vocabulary, settings", *sides, *others, "spread"), lines)
    headings = ("rows x vocabulary, settings", "decode step of", "ms", *sides)
    show("Sampling beside a decode step", headings, shares)
    record(options.json, "sampling", figures, options)


def whose() -> str:
    """Whose processors the Hugging Face side runs."""
    try:
        import transformers
    except ImportError:
        return "its steps as written here; `pip install -r benchmarks/requirements.txt` brings its own"
    return f"processors of transformers {transformers.__version__}"


if __name__ == "__main__":
    main()
