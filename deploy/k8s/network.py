"""Who may speak to whom: nobody, but for what stands here."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.k8s import gateway, workers
from deploy.k8s.parts import Object, Options, labels, object_


def objects(options: Options) -> list[Object]:
    """The policies of the gateway and the workers, and the refusal of everything else."""
    return [_nothing(options), _gateway(options), _workers(options)]


def policy(
    name: str,
    options: Options,
    chosen: dict[str, str],
    ingress: Sequence[Object] = (),
    egress: Sequence[Object] = (),
) -> Object:
    """A policy for the pods labelled `chosen`, in both directions."""
    spec = {
        "podSelector": {"matchLabels": chosen} if chosen else {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(ingress),
        "egress": list(egress),
    }
    return object_("networking.k8s.io/v1", "NetworkPolicy", name, options, chosen, spec=spec)


def names_are_looked_up() -> Object:
    """The way to the cluster's name server."""
    return {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
        "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
    }


def pods(chosen: dict[str, str]) -> Object:
    return {"podSelector": {"matchLabels": chosen}}


def ports(*numbers: int | str) -> list[Object]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def to_gateway() -> Object:
    return {"to": [pods(labels("gateway"))], "ports": ports(gateway.PORT)}


def _nothing(options: Options) -> Object:
    return policy("inkwell-nothing", options, {})


def _gateway(options: Options) -> Object:
    # Anybody may ask: keys decide who is answered. It reaches the workers and nothing else.
    inward = {"ports": ports(gateway.PORT)}
    outward = {
        "to": [pods(labels("worker"))],
        "ports": ports(workers.INFERENCE, workers.MANAGEMENT),
    }
    return policy(gateway.NAME, options, labels("gateway"), [inward], [names_are_looked_up(), outward])


def _workers(options: Options) -> Object:
    # Archives are programs and the management port has no keys, so nobody but the gateway comes near, and
    # nothing goes out.
    from_gateway = {
        "from": [pods(labels("gateway"))],
        "ports": ports(workers.INFERENCE, workers.MANAGEMENT),
    }
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": options.monitoring}}
    scraped = {"from": [{"namespaceSelector": namespace}], "ports": ports(workers.METRICS)}
    return policy("inkwell-worker", options, labels("worker"), [from_gateway, scraped])
