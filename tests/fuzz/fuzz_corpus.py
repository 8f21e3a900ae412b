"""Makes the inputs that fuzzing begins with: one folder for each target, files named by what they are.

    python tests/fuzz/fuzz_corpus.py        writes tests/fuzz/corpus anew; files of findings are kept

Everything here is written by this project. Names that begin with `found-` were made by the fuzzer and are not
made again here: each is an input that once did harm.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_targets import CORPUS, saved, tiny

from inkwell.novelty import NoveltyIndex

_spec = importlib.util.spec_from_file_location(
    "data_conftest", Path(__file__).parents[1] / "training" / "data" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Makers = _module.Makers

ENTRIES = {1: "Axe", 2: None, 3: "", 7: "A blade.\nOf the old kind."}


def requests() -> dict[str, bytes]:
    everything = {
        "inputs": "The", "model": "prose", "stream": False,
        "parameters": {
            "temperature": 0.8, "top_k": 5, "top_p": 0.9, "typical_p": 0.9, "min_p": 0.1, "seed": 7,
            "repetition_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": -0.5,
            "no_repeat_ngram_size": 3, "logit_bias": {"a": 1.5}, "max_new_tokens": 9, "min_new_tokens": 2,
            "stop": ["."], "n": 2, "best_of": 3, "return_full_text": True, "truncate": 4, "details": True,
            "regex": "[a-z]+", "category": {"elf": 1, "ork": 2}, "seed_word": {"strategy": "rare"},
            "unique": True, "session": "s", "novelty": {"mode": "mark", "max_overlap_chars": 9},
            "rank": "logprob", "post_process": ["quotes"], "trace": True, "syllables": [1, 3],
        },
    }  # fmt: skip
    openai = {"model": "prose", "prompt": [[1, 2], [3]], "max_tokens": 5, "logprobs": 2, "echo": True,
              "stream_options": {"include_usage": True}, "suffix": None}  # fmt: skip
    return {
        "everything": json.dumps(everything).encode(),
        "openai": json.dumps(openai).encode(),
        "empty": b"",
        "null": b"null",
        "nothing": b"{}",
        "list": b"[1]",
        "deep": b'{"inputs":' + b"[" * 3000 + b"]" * 3000 + b"}",
        "long-number": b'{"parameters":{"seed":' + b"9" * 5000 + b"}}",
        "huge-number": b'{"parameters":{"temperature":1e999}}',
        "not-a-number": b'{"parameters":{"temperature":NaN}}',
        "nul": b'{"inputs":"a\\u0000b"}',
        "half-a-pair": b'{"inputs":"\\ud800"}',
        "broken-utf8": b'{"inputs":"\xff\xfe"}',
        "twice": b'{"inputs":"a","inputs":5}',
        "unknown": b'{"inputs":"a","parameters":{"temprature":1}}',
        "unknown-with-nul": b'{"\\u0000\\n":1}',
        "wrong-kind": b'{"inputs":{"a":[1,{"b":null}]},"parameters":[],"model":5}',
    }


def posts() -> dict[str, bytes]:
    jobs = [
        {"id": "a", "prompt": "The", "seed": 1, "max_new_tokens": 5},
        {"id": "b", "prompt": None, "seed_word": {"strategy": "letter", "value": "l"}, "max_new_tokens": 3},
        {"id": "c", "prompt": [1, 2], "resume_ids": [3, 4], "regex": "[a-z ]+", "max_new_tokens": 9},
    ]
    return {
        "jobs": json.dumps({"jobs": jobs}).encode(),
        "twice": json.dumps({"jobs": [jobs[0], jobs[0]]}).encode(),
        "single": b'{"prompt":"The","max_new_tokens":2}',
        "context": b'{"context":"The"}',
        "inputs": b'{"inputs":"The","parameters":{"max_new_tokens":2,"logprobs":true,"trace":true}}',
        "describe": b'{"describe":true}',
        "tokenize": b'{"tokenize":"The"}',
        "cancel": b'{"cancel":["a","b"]}',
        "nothing": b"{}",
        "empty": b"",
        "deep": b"[" * 5000,
        "many": json.dumps({"jobs": [{"id": str(n), "max_new_tokens": 1} for n in range(12)]}).encode(),
        "odd-ids": json.dumps({"jobs": [{"id": None}, {"id": 5}, "x", {}, {"id": "é"}]}).encode(),
        "huge-number": b'{"jobs":[{"id":"a","seed":' + b"1" * 400 + b',"top_k":1e308}]}',
        "half-a-pair": b'{"jobs":[{"id":"a","prompt":"\\ud800","stop":["\\udfff"]}]}',
        "bias": b'{"jobs":[{"id":"a","prompt":"T","logit_bias":{"0":-100,"h":100},"max_new_tokens":4}]}',
        "deadline": b'{"jobs":[{"id":"a","prompt":"T","deadline_ms":0}]}',
    }


def regexes() -> dict[str, bytes]:
    return {
        "simple": b"[a-z]+ [a-z]+",
        "rules": b"\\w+\nstarts_with=Th\nends_with=.\nmin_chars=3\nmax_chars=9",
        "nested": b"((a|b)*c?){2,5}",
        "explosive": b"(a|aa)+b(.{0,40}){8}",
        "many-states": b".*a.{15}",
        "big-count": b"a{1,65535}",
        "unicode": "[ä-ö]\\W\\s".encode(),
        "anchors": b"^a$|^b",
        "look": b"(?=a)b",
        "back": b"(a)\\1",
        "flags": b"(?i:abc)(?s:.)",
        "broken": b"(((",
        "class": b"[^\\d\\S-z]",
        "empty": b"",
        "deep": b"(" * 900 + b")" * 900,
        "impossible": b"a\nstarts_with=b",
    }


def bundles() -> dict[str, bytes]:
    from fuzz_targets import _FILES

    made = {}
    for number, name in enumerate(_FILES):
        path = saved() / name
        if path.is_file():
            made[name.replace(".", "-")] = bytes([number]) + path.read_bytes()
    index = saved().parent / "novelty.npz"
    NoveltyIndex.build(["The harbour lay quiet.", "Old sailors."], ["one", "two"]).save(index)
    made["novelty"] = bytes([_FILES.index("novelty.npz")]) + index.read_bytes()
    huge = json.loads((saved() / "config.json").read_text())
    huge["model"]["hidden"] = 1 << 40
    made["huge-model"] = b"\0" + json.dumps(huge).encode()
    huge["model"]["hidden"], huge["model"]["layers"] = 8, 1 << 40
    made["endless-model"] = b"\0" + json.dumps(huge).encode()
    made["pickle"] = (
        bytes([3]) + b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93."
    )
    made["empty"] = b"\0"
    return made


def archives() -> dict[str, bytes]:
    manifest = {"model": {"modelName": "prose", "modelVersion": "1.0", "handler": "continuous.py"}}
    plain = {"MAR-INF/MANIFEST.json": json.dumps(manifest).encode(), "continuous.py": b"x = 1\n"}
    with_bundle = plain | {
        f"bundle/{path.name}": path.read_bytes() for path in saved().iterdir() if path.is_file()
    }
    leaving = {"model": {**manifest["model"], "handler": "../../x.py"}}
    whole = zipped(with_bundle)
    return {
        "plain": zipped(plain),
        "bundle": whole,
        "cut": whole[: len(whole) // 2],
        "climbing": zipped(plain | {"../out.py": b"x"}),
        "absolute": zipped(plain | {"/tmp/out.py": b"x"}),
        "backslash": zipped(plain | {"..\\out.py": b"x"}),
        "leaving-manifest": zipped(plain | {"MAR-INF/MANIFEST.json": json.dumps(leaving).encode()}),
        "list-manifest": zipped(plain | {"MAR-INF/MANIFEST.json": b"[]"}),
        "other-model": zipped(plain | {"MAR-INF/MANIFEST.json": b'{"model":{"modelName":"x"}}'}),
        "deep-manifest": zipped(plain | {"MAR-INF/MANIFEST.json": b"[" * 100_000}),
        "folder-as-file": zipped(plain | {"continuous.py/inner": b"x"}),
        "empty": b"",
    }


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # A fixed time, so that the corpus does not change when it is written anew.
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def fmg_xmls() -> dict[str, bytes]:
    bomb = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    return {
        "plain": Makers.fmg_xml(ENTRIES).encode(),
        "named": Makers.fmg_xml(ENTRIES, filename="武器名").encode(),
        "bomb": f'<!DOCTYPE fmg [<!ENTITY a0 "x">{bomb}]><fmg>&a9;</fmg>'.encode(),
        "outside": b'<!DOCTYPE fmg [<!ENTITY a SYSTEM "file:///etc/passwd">]><fmg>&a;</fmg>',
        "wrong-root": b"<html/>",
        "deep": b"<fmg>" + b"<entries>" * 2000,
        "wide": b"<fmg>" + b"<entries/>" * 500 + b"</fmg>",
        "no-id": b"<fmg><entries><text>a</text></entries></fmg>",
        "long-id": b'<fmg><entries><text id="' + b"9" * 5000 + b'">a</text></entries></fmg>',
        "nul": b'<fmg><entries><text id="1">a\0b</text></entries></fmg>',
        "utf-16": '<?xml version="1.0" encoding="utf-16"?><fmg/>'.encode("utf-16"),
        "empty": b"",
    }


def fmg_binaries() -> dict[str, bytes]:
    tables = {
        f"version-{version}-{'big' if big else 'little'}": Makers.fmg_bytes(ENTRIES, version, big)
        for version in (0, 1, 2)
        for big in (False, True)
    }
    table = tables["version-2-little"]
    return tables | {
        "shift-jis": Makers.fmg_bytes({1: "Axe"}, 1, utf16=False),
        "dcx": Makers.dcx_bytes(table),
        "dcp": Makers.dcp_bytes(table),
        "dcx-liar": Makers.dcx_bytes(table, claimed=5),
        "bnd3": Makers.bnd3_bytes({"weapon.fmg": table, "x.txt": b"x"}),
        "bnd4": Makers.bnd4_bytes({"weapon.fmg": table}),
        "bnd4-in-dcx": Makers.dcx_bytes(Makers.bnd4_bytes({"weapon.fmg": table})),
        "cut": table[:-5],
        "empty": b"",
    }


def corpora() -> dict[str, bytes]:
    txt, csv, tsv, jsonl = (bytes([number]) for number in range(4))
    return {
        "stories": txt + b"One day.<|endoftext|>Two days.",
        "lines": txt + b"Ann\nBob\nCid\n",
        "bom": txt + "\ufeffThe sea.\r\nThe land.".encode(),
        "utf-16": txt + "The sea.".encode("utf-16"),
        "nul": txt + b"The\0sea",
        "broken-utf8": txt + b"The \xff sea",
        "cut-utf8": txt + "sea ü".encode()[:-1],
        "long-line": txt + b"a" * 70_000 + b"\nb\n",
        "csv": csv + b"name,category\nAnn,elf\nBob,ork\n",
        "csv-quotes": csv + b'name,category\n"A ""b""\nc",elf\n"open',
        "csv-wide": csv + b"name" + b",x" * 400 + b"\na\n",
        "tsv": tsv + b"name\tcategory\nAnn\telf\n",
        "jsonl": jsonl + b'{"text":"The sea.","category":"elf","id":1}\n"plain"\n',
        "jsonl-deep": jsonl + b"[" * 5000,
        "jsonl-number": jsonl + b'{"text":' + b"9" * 5000 + b"}",
        "jsonl-pair": jsonl + b'{"text":"\\ud800"}',
        "canonical": jsonl + b'{"inkwell":"corpus","format":1,"kind":"documents","name":"x"}\n{"text":"a"}\n',
        "empty": txt,
    }


def key_files() -> dict[str, bytes]:
    digest = "ab" * 32
    return {
        "plain": f"ada sha256:{digest}\nbob sha256:{digest} admin # the boss\n\n".encode(),
        "scrypt": b"ada scrypt:16:1:1:00:" + b"00" * 32 + b"\n",
        "scrypt-cost": b"ada scrypt:1048576:8:1:00:00\n",
        "scrypt-negative": b"ada scrypt:-2:-1:0:00:\n",
        "short": b"ada sha256:00\n",
        "words": b"ada\n",
        "scheme": b"ada md5:00\n",
        "odd-digits": b"ada sha256:" + b"0" * 63 + b"\n",
        "unicode-digits": "ada scrypt:١٦:1:1:00:00\n".encode(),
        "nul": b"ada\0 sha256:00\n",
    }


def models_files() -> dict[str, bytes]:
    root = Path(__file__).parents[2]
    index = {"archives": {"prose.mar": {"sha256": "0" * 64, "model": "prose", "version": "1.0"}}}
    return {
        "shipped": (root / "deploy" / "models.toml").read_bytes(),
        "index": json.dumps(index).encode(),
        "unknown": b'[models.prose]\nfamily = "prose"\ncolour = 1\n',
        "wrong": b"[models.prose]\nfamily = 5\ngpus = nan\nslots = -1\n",
        "two-defaults": b'[models.a]\nfamily="a"\ndefault=true\n[models.b]\nfamily="b"\ndefault=true\n',
        "deep": b"a = " + b"[" * 2000,
        "long-number": b"[models.a]\nslots = " + b"9" * 5000,
        "odd-index": b'{"archives": {"x": null}}',
        "empty": b"",
    }


MAKERS = {
    "request": requests,
    "post": posts,
    "regex": regexes,
    "bundle": bundles,
    "archive": archives,
    "fmg_xml": fmg_xmls,
    "fmg_binary": fmg_binaries,
    "corpus": corpora,
    "keys": key_files,
    "models": models_files,
}


def main() -> None:
    tiny()
    for target, make in MAKERS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found-"):
                old.unlink()
        for name, content in make().items():
            (folder / name).write_bytes(content)
    total = sum(1 for path in CORPUS.rglob("*") if path.is_file())
    sys.stdout.write(f"{total} inputs in {CORPUS}\n")


if __name__ == "__main__":
    main()
