"""Run by torchrun: fits a toy model in several processes; the first writes the parameters to argv[1]."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.batches import Share
from training.distributed import processes
from training.loop import Trainer

spec = importlib.util.spec_from_file_location("toys", Path(__file__).with_name("toys.py"))
assert spec is not None
assert spec.loader is not None
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)

if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    with processes(torch.device("cpu")) as group:
        for kind, settings in (("stream", toys.LSTM), ("documents", {**toys.GPT, "category_dropout": 0.0})):
            for accumulate in (1, 2):
                fit = toys.fit_of(accumulate=accumulate)
                # other initial weights per process: the first one's must be taken
                model = toys.model_of(settings, seed=group.rank)
                source = toys.source_of(kind, fit, Share(group.rank, group.world))
                fitted = Trainer(model, fit, source, None, processes=group).run()
                if group.rank == 0:
                    values = {n: p.detach().clone() for n, p in model.named_parameters()}
                    values["tokens"] = torch.tensor(fitted.tokens)
                    save_file(values, out / f"{kind}-{accumulate}.safetensors")
