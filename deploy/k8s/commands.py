"""The command-line verbs `inkwell k8s render` and `inkwell k8s verify`."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
import yaml
from rich.console import Console

from deploy.errors import DeployError, OptionError
from deploy.inventory import InventoryError
from deploy.k8s import schemas
from deploy.k8s.cluster import Cluster
from deploy.k8s.parts import Object, Options
from deploy.k8s.tree import Tree, differences, write
from deploy.k8s.tree import render as make_tree
from deploy.k8s.work_rules import all_rules
from deploy.models_file import ModelsFileError, load

_ROOT = Path(__file__).resolve().parents[2]
_METRIC = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
_P = ParamSpec("_P")
_R = TypeVar("_R")

app = typer.Typer(
    name="k8s",
    help="Manifests for Kubernetes: render them from the models files, and check them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
Out = Annotated[Path, typer.Option(help="The folder of base, components and overlays.")]
Models = Annotated[Path, typer.Option("--models-file", help="Which models run on CPUs.")]
GpuModels = Annotated[Path, typer.Option("--gpu-models-file", help="Which run where in the gpu overlays.")]


def _plain(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Errors that are meant for people, without a traceback and with their own exit code."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except DeployError as error:
            _say(str(error))
            raise typer.Exit(error.exit_code) from None
        except (ModelsFileError, InventoryError) as error:
            _say(str(error))
            raise typer.Exit(OptionError.exit_code) from None

    return run


def _say(text: str) -> None:
    Console(stderr=True).print(f"error: {text}", style="red", markup=False, highlight=False, soft_wrap=True)


@app.command()
@_plain
def render(
    models_file: Models = _ROOT / "deploy/models.toml",
    gpu_models_file: GpuModels = _ROOT / "deploy/models.gpu.toml",
    out: Out = _ROOT / "deploy/k8s",
    namespace: Annotated[str, typer.Option(help="Where everything lives.")] = Options.namespace,
    version: Annotated[str, typer.Option(help="Tag of the images.")] = Options.version,
    prometheus: Annotated[str, typer.Option(help="Where KEDA asks.")] = Options.prometheus,
    monitoring: Annotated[str, typer.Option(help="Prometheus' namespace.")] = Options.monitoring,
    gpu_memory: Annotated[str, typer.Option(help="Memory of one GPU.")] = Options.gpu_memory,
    longest_request: Annotated[int, typer.Option(help="Seconds that a request may take.")] = (
        Options.longest_request_s
    ),
    most_replicas: Annotated[int, typer.Option(help="Scale to so many times the replicas.")] = (
        Options.most_replicas
    ),
    training_nodes: Annotated[int, typer.Option(help="Pods of the training Job.")] = Options.training_nodes,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is out of date.")
    ] = False,
) -> None:
    """Write the manifests. Examples:

      inkwell k8s render

      inkwell k8s render --models-file mine.toml --out my-manifests --namespace stories

    Exit codes: 0 done, 1 out of date (with --check), 2 bad option or models file.
    """
    options = Options(
        namespace=namespace,
        version=version,
        longest_request_s=_at_least(1, "--longest-request", longest_request),
        monitoring=monitoring,
        prometheus=prometheus,
        gpu_memory=gpu_memory,
        most_replicas=_at_least(2, "--most-replicas", most_replicas),
        training_nodes=_at_least(1, "--training-nodes", training_nodes),
    )
    texts = make_tree(load(models_file), load(gpu_models_file), options).texts()
    if check:
        stale = differences(texts, out)
        for path in stale:
            typer.echo(f"out of date: {out / path}")
        raise typer.Exit(1 if stale else 0)
    for path in write(texts, out):
        typer.echo(f"{'wrote' if path in texts else 'removed'} {out / path}")


def _at_least(low: int, option: str, value: int) -> int:
    if value < low:
        raise OptionError(f"{option} {value}: must be at least {low}")
    return value


@app.command()
@_plain
def verify(
    manifest: Annotated[
        Path | None,
        typer.Argument(help="YAML to check; - reads it from standard input. [default: all of ours]"),
    ] = None,
) -> None:
    """Check manifests against Kubernetes' schemas and against the rules of docs/kubernetes.md. Examples:

      inkwell k8s verify

      kubectl kustomize my-overlay | inkwell k8s verify -

    Exit codes: 0 all hold, 1 something does not, 2 bad option.
    """
    if manifest is None:
        tree = shipped()
        checked = {name: tree.composed(name) for name in tree.overlays}
    else:
        checked = {str(manifest): _read(manifest)}
    with_schemas = importlib.util.find_spec("kubernetes_validate") is not None
    if not with_schemas:
        typer.echo("schemas are not checked: `pip install kubernetes-validate` brings them", err=True)
    failed = False
    for name, things in checked.items():
        found = [*complaints(things)]
        tried = schemas.versions(things) if with_schemas else []
        for version in tried:
            found += schemas.violations(things, version)
        failed = failed or bool(found)
        said = f" Kubernetes {', '.join(tried)};" if tried else ""
        typer.echo(f"{name}: {len(things)} objects;{said} {len(found) or 'no'} complaints")
        for complaint in found:
            typer.echo(f"  {complaint}")
    raise typer.Exit(1 if failed else 0)


def shipped(**changes: Any) -> Tree:
    """The manifests as the repository ships them, before they are text."""
    folder = _ROOT / "deploy"
    return make_tree(
        load(folder / "models.toml"), load(folder / "models.gpu.toml"), replace(Options(), **changes)
    )


def documented_metrics() -> frozenset[str]:
    """The names in docs/metrics.md. Raises `OptionError` where the page is not there."""
    page = _ROOT / "docs" / "metrics.md"
    if not page.is_file():
        raise OptionError(f"{page}: is part of a checkout; run this there")
    return frozenset(_METRIC.findall(page.read_text(encoding="utf-8")))


def complaints(things: Iterable[Object]) -> list[str]:
    """What the rules find in `things`."""
    cluster = Cluster(list(things))
    return [complaint for rule in all_rules(documented_metrics()) for complaint in rule(cluster)]


def _read(manifest: Path) -> list[Object]:
    try:
        text = sys.stdin.read() if str(manifest) == "-" else manifest.read_text(encoding="utf-8")
        things = [thing for thing in yaml.safe_load_all(text) if thing]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionError(f"{manifest}: cannot be read as YAML: {error}") from error
    for thing in things:
        if not isinstance(thing, dict) or "kind" not in thing or "name" not in thing.get("metadata", {}):
            raise OptionError(f"{manifest}: holds something that is no object of Kubernetes: {thing!r:.80}")
    return things
