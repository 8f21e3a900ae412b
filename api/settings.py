"""Every setting of the gateway; the one file that reads the environment (prefix `INKWELL_`)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_DEFAULT_MODELS = Path(__file__).resolve().parent.parent / "deploy" / "models.toml"

Endpoints = Annotated[list[str], NoDecode]


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address) can be reached from this machine only."""
    if host in ("localhost", ""):
        return host == "localhost"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Times are in seconds unless the name says otherwise; sizes in bytes, characters or tokens as named.

    Lists are given as comma-separated values: `INKWELL_INFERENCE=http://a:8080,http://b:8080`.
    """

    model_config = SettingsConfigDict(env_prefix="INKWELL_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    models_file: Path = _DEFAULT_MODELS

    # Where TorchServe listens. A model that lives elsewhere is named in `model_inference`.
    inference: Endpoints = Field(default=["http://127.0.0.1:8080"], min_length=1)
    management: Endpoints = Field(default=["http://127.0.0.1:8081"], min_length=1)
    model_inference: dict[str, list[str]] = {}
    model_management: dict[str, list[str]] = {}
    # Whether the names in these stand for several machines each, as a headless Service's does: see `api/places.py`.
    discover: bool = False

    # Deadlines.
    deadline_s: float = Field(default=120.0, gt=0, description="acceptance to last byte")
    connect_s: float = Field(default=2.0, gt=0)
    liveness_s: float = Field(default=10.0, gt=0, description="silence before a resume")
    retry_base_s: float = Field(default=0.05, gt=0)
    retry_max_s: float = Field(default=2.0, gt=0)
    eject_s: float = Field(default=1.0, gt=0, description="how long an endpoint that failed is passed over")
    describe_s: float = Field(default=5.0, gt=0)
    ready_cache_s: float = Field(default=1.0, ge=0)
    drain_s: float = Field(default=30.0, ge=0, description="for work in hand at a stop signal")
    revive_after_s: float = Field(default=20.0, gt=0, description="a worker dead so long is asked for again")
    register_s: float = Field(default=180.0, gt=0, description="for a new version to load")

    # Limits.
    body_s: float = Field(default=30.0, gt=0, description="for a request's body to arrive")
    max_body_bytes: int = Field(default=2_000_000, ge=1)
    max_input_chars: int = Field(default=100_000, ge=1, description="one prompt")
    max_inputs: int = Field(default=256, ge=1, description="prompts in one request")
    max_samples: int = Field(default=64, ge=1, description="`n` and `best_of`")
    max_request_tokens: int = Field(default=200_000, ge=1, description="prompts and answers of one request")
    max_rounds: int = Field(default=8, ge=1, description="how often texts that will not do are drawn again")
    max_queue_tokens: int | None = Field(default=None, ge=1, description="instead of the models file")
    max_streams_per_key: int = Field(default=256, ge=1)
    requests_per_second_per_key: float = Field(default=0.0, ge=0, description="0: no limit")
    max_sessions: int = Field(default=10_000, ge=1, description="of one key")
    max_session_texts: int = Field(default=2_000, ge=1, description="of one session")
    max_remembered_texts: int = Field(default=1_000_000, ge=1, description="of all sessions in this process")
    session_ttl_s: float = Field(default=3600.0, gt=0, description="after a session's last use")

    # Sessions that several gateways share: a Redis, as `redis://user:password@host:6379/0`.
    redis_url: SecretStr | None = None
    redis_prefix: str = Field(default="inkwell", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="of its keys")
    redis_timeout_s: float = Field(default=0.25, gt=0, description="what one question may take")

    # Batching: see `api/batcher.py`.
    starting_dispatches: int = Field(default=4, ge=1, description="per worker: POSTs not yet taken up")
    open_dispatches: int = Field(default=64, ge=1, description="per worker: POSTs on their way in all")
    dispatch_jobs: int = Field(default=64, ge=1, le=1024, description="jobs in one POST")
    inflight_per_slot: float = Field(default=1.25, ge=1, description="jobs sent per slot of a worker")

    # Rolling new versions: where archives lie with their `index.json`, and the folder that TorchServe loads
    # from, both as this process sees them. Without the second nothing can be registered.
    model_store: Path = Path("model_store")
    worker_store: Path | None = None

    # Traces: an OTLP/HTTP endpoint, as `http://collector:4318/v1/traces`.
    otel_endpoint: str | None = None
    otel_share: float = Field(default=1.0, ge=0, le=1, description="part of the requests that is traced")

    # Who may call.
    key_file: Path | None = None
    allow_keyless: bool = Field(default=False, description="serve other machines without keys")
    cors_origins: Endpoints = []

    @field_validator("inference", "management", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("inference", "management")
    @classmethod
    def _urls(cls, value: list[str]) -> list[str]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} must begin with http:// or https://")
        return [url.rstrip("/") for url in value]

    @model_validator(mode="after")
    def _keyless_means_loopback(self) -> Settings:
        if self.key_file is None and not self.allow_keyless and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} can be reached from other machines, and no key_file is set: set one, "
                "bind to 127.0.0.1, or set allow_keyless=true where the network itself is private"
            )
        return self
