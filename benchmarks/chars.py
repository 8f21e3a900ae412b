"""Characters per second of training: the hand-written NumPy RNN against a torch RNN of the same size.

Each side takes whole training steps (forward, backward through time, clipping, Adam, state carried) over the same
windows. torch is given its fused Adam and two ways to say the same model: `nn.RNN` over one-hot vectors, and a loop
over steps whose input product is `F.embedding`. Text and weights are random: speed does not depend on them.

`ratio` is time over NumPy's time, by the clock and by processor seconds.

    inkwell bench chars [--rounds 9] [--steps 40] [--threads 1] [--batches 1 10 50]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from measure import console, interleaved, machine, show
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn

from inkwell.models.recurrent import RecurrentConfig, RecurrentModel
from training.chars.adam import Adam, clip
from training.chars.convert import from_torch
from training.chars.rnn import CharRNN, Weights
from training.chars.windows import CharWindows, Window

RATE, CLIP = 1e-3, 5.0


def endless(windows: CharWindows) -> Iterator[Window]:
    epoch = 0
    while True:
        yield from windows.epoch(epoch)
        epoch += 1


def in_numpy(model: RecurrentModel, windows: CharWindows, steps: int) -> Callable[[], object]:
    weights = from_torch(model)
    network, adam = CharRNN(weights), Adam(weights)
    gradients = Weights.zeros(weights.shape)
    stream = endless(windows)

    def run() -> None:
        state = network.start(windows.batch)
        for _ in range(steps):
            window = next(stream)
            _, state = network.gradients(window.ids, window.targets, state, gradients)
            clip(gradients, CLIP)
            adam.step(gradients, RATE)

    return run


class OneHot(nn.Module):
    """nn.RNN over one-hot vectors, as tutorials write it."""

    def __init__(self, symbols: int, hidden: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.recurrent = nn.RNN(symbols, hidden)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, last = self.recurrent(F.one_hot(ids, self.symbols).float(), state)
        return self.head(y), last


class OwnLoop(nn.Module):
    """The same steps as in NumPy (rows gathered, one product per step), differentiated by autograd."""

    def __init__(self, symbols: int, hidden: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(symbols, hidden) * 0.05)
        self.recurrent = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        last, hidden = state[0], []
        for row in F.embedding(ids, self.table):
            last = torch.tanh(row + self.recurrent(last))
            hidden.append(last)
        return self.head(torch.stack(hidden)), last[None]


def in_torch(module: nn.Module, hidden: int, windows: CharWindows, steps: int) -> Callable[[], object]:
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE, fused=True)
    stream = endless(windows)

    def run() -> None:
        state = torch.zeros(1, windows.batch, hidden)
        for _ in range(steps):
            window = next(stream)
            logits, state = module(torch.from_numpy(window.ids), state)
            state = state.detach()
            loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(window.targets).flatten())
            loss.item()  # the other side knows its loss too
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()

    return run


def metered(run: Callable[[], object], spent: list[float]) -> Callable[[], object]:
    """`run`, noting its processor seconds: what is left of a measurement when other programs want the cores."""

    def metered_run() -> None:
        started = time.process_time()
        run()
        spent.append(time.process_time() - started)

    return metered_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40, help="training steps of one side in one round")
    parser.add_argument("--threads", type=int, default=1, help="for BLAS and for torch")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--length", type=int, default=25)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--symbols", type=int, default=90)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    text = np.random.default_rng(1).integers(0, options.symbols, 200_000)
    rows: list[tuple[object, ...]] = []
    with threadpool_limits(limits=options.threads, user_api="blas"):
        for batch in options.batches:
            windows = CharWindows(text, batch, options.length, "none", 1)
            model = RecurrentModel(RecurrentConfig(options.symbols, "rnn", options.hidden, layers=1))
            size = (options.symbols, options.hidden)
            sides = {
                "NumPy by hand": in_numpy(model, windows, options.steps),
                "torch nn.RNN": in_torch(OneHot(*size), options.hidden, windows, options.steps),
                "torch own loop": in_torch(OwnLoop(*size), options.hidden, windows, options.steps),
            }
            spent: dict[str, list[float]] = {name: [] for name in sides}
            metered_sides = {name: metered(run, spent[name]) for name, run in sides.items()}
            times = interleaved(metered_sides, options.rounds)
            base = times["NumPy by hand"].median
            # the first run of each was its warm-up
            processor = {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}
            characters = batch * options.length * options.steps
            for name, timing in times.items():
                rows.append(
                    (
                        f"{batch:3} {name}",
                        f"{characters / timing.median:,.0f}",
                        timing.median / base,
                        f"±{timing.spread:.0%}",
                        f"{characters / processor[name]:,.0f}",
                        processor[name] / processor["NumPy by hand"],
                    )
                )
        blas = ", ".join(
            sorted(
                {f"{i['internal_api']} {i['version']}" for i in threadpool_info() if i["user_api"] == "blas"}
            )
        )
    console.print(
        f"{machine()}; NumPy {np.__version__} with {blas}, {options.threads} threads", highlight=False
    )
    title = f"training, hidden {options.hidden}, windows of {options.length}, {options.symbols} symbols"
    show(title, ("batch, side", "char/s", "ratio", "spread", "char/CPU-s", "ratio"), rows)


if __name__ == "__main__":
    main()
