"""A Python client of the gateway: needs httpx, and neither torch nor numpy.

    from inkwell.client import Client

    with Client("http://127.0.0.1:8000") as inkwell:
        print(inkwell.generate("The harbour", model="prose", max_new_tokens=80).text)
        for token in inkwell.stream("The lantern", model="prose"):
            print(token.text, end="", flush=True)

`AsyncClient` has the same methods to be awaited. Parameters are those of the gateway's native request
(`inkwell.client.parameters.Parameters`); errors are listed in `inkwell.client.errors`.
"""

from __future__ import annotations

from inkwell.client.answers import Answer, ModelInfo, Novelty, ServerInfo, Token, TopToken
from inkwell.client.async_client import AsyncClient, AsyncTokenStream
from inkwell.client.errors import (
    AnswerError,
    ClientError,
    GenerationFailed,
    IncompleteGeneration,
    MissingDependency,
    ModelNotFound,
    NotAuthorized,
    Overloaded,
    ServerError,
    TimedOut,
    Unreachable,
    ValidationError,
)
from inkwell.client.parameters import Parameters
from inkwell.client.retrying import Retries
from inkwell.client.sync_client import Client, TokenStream

__all__ = [
    "Answer",
    "AnswerError",
    "AsyncClient",
    "AsyncTokenStream",
    "Client",
    "ClientError",
    "GenerationFailed",
    "IncompleteGeneration",
    "MissingDependency",
    "ModelInfo",
    "ModelNotFound",
    "NotAuthorized",
    "Novelty",
    "Overloaded",
    "Parameters",
    "Retries",
    "ServerError",
    "ServerInfo",
    "TimedOut",
    "Token",
    "TokenStream",
    "TopToken",
    "Unreachable",
    "ValidationError",
]
