"""From files of any kind to a `Corpus`, and from a corpus to splits."""

from training.data.corpus import Corpus, Document, Source, load_jsonl, save_jsonl
from training.data.load import LoadOptions, load, load_reported
from training.data.split import SplitOptions, Splits, split

__all__ = [
    "Corpus",
    "Document",
    "LoadOptions",
    "Source",
    "SplitOptions",
    "Splits",
    "load",
    "load_jsonl",
    "load_reported",
    "save_jsonl",
    "split",
]
