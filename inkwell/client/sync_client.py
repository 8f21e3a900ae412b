"""The client for ordinary code."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from inkwell.client import wire
from inkwell.client.answers import (
    Answer,
    ModelInfo,
    ServerInfo,
    Token,
    read_answer,
    read_info,
    read_models,
    unexpected,
)
from inkwell.client.errors import ClientError, TimedOut, Unreachable
from inkwell.client.parameters import Parameters
from inkwell.client.retrying import Attempts, Retries

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self, Unpack


class Client:
    """Asks one gateway. Connections are kept; close it, or use it as a context manager.

    Refusals for overload and connections that fail are tried again until `retries.deadline`. May be shared
    by threads. Every method raises a ClientError of `inkwell.client.errors`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`transport` replaces the network. Raises ValidationError for a bad `url`, MissingDependency."""
        self.url = wire.base_url(url)
        self.retries = retries or Retries()
        self._httpx = wire.load_httpx()
        self._http: httpx.Client = self._httpx.Client(
            base_url=self.url, headers=wire.headers(api_key), transport=transport
        )

    def generate(
        self, prompt: str | None = None, *, model: str | None = None, **parameters: Unpack[Parameters]
    ) -> Answer:
        """One text. Without a prompt the gateway chooses a seed word; without a model it takes its default."""
        body = wire.generate_body(prompt, model, parameters, many=False)
        return read_answer(self._json("POST", "/generate", body))

    def generate_many(
        self,
        prompts: wire.Prompts = None,
        *,
        model: str | None = None,
        **parameters: Unpack[Parameters],
    ) -> list[Answer]:
        """`n` texts for each prompt, in one request: all of the first prompt, all of the second, …"""
        body = wire.generate_body(prompts, model, parameters, many=True)
        found = self._json("POST", "/generate", body)
        return [read_answer(value) for value in (found if isinstance(found, list) else [found])]

    def stream(
        self, prompt: str | None = None, *, model: str | None = None, **parameters: Unpack[Parameters]
    ) -> TokenStream:
        """One text, token by token; the last token bears the whole `answer`.

        The request is sent when the first token is asked for. Closing the stream stops the work.
        """
        return TokenStream(self, wire.generate_body(prompt, model, parameters, many=False))

    def models(self) -> tuple[ModelInfo, ...]:
        """What the gateway serves."""
        return read_models(self._json("GET", "/models"))

    def info(self, model: str | None = None) -> ServerInfo:
        """The gateway's limits, and its default model or the one named."""
        return read_info(self._json("GET", wire.info_path(model)))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        attempts = Attempts(self.retries, time.monotonic)
        while True:
            response = self._answered(method, path, body, attempts)
            content = bytearray()
            try:
                for part in response.iter_bytes():
                    attempts.left()
                    content += part
                return json.loads(content)
            except self._httpx.TransportError as error:
                time.sleep(attempts.pause(wire.transport_error(error, self.url)))
            except ValueError as error:
                raise unexpected("JSON", bytes(content)) from error
            finally:
                response.close()

    def _answered(
        self, method: str, path: str, body: dict[str, Any] | None, attempts: Attempts
    ) -> httpx.Response:
        """A response of status 200 whose body is still to be read."""
        while True:
            left = attempts.left()
            timeout = self._httpx.Timeout(left, connect=min(left, wire.CONNECT_S))
            request = self._http.build_request(method, path, json=body, timeout=timeout)
            failure: ClientError
            try:
                response = self._http.send(request, stream=True)
                if response.status_code == 200:
                    return response
                try:
                    failure = wire.error_of(response.status_code, response.read(), response.headers)
                finally:
                    response.close()
            except self._httpx.TransportError as error:
                failure = wire.transport_error(error, self.url)
            time.sleep(attempts.pause(failure))


class TokenStream(Iterator[Token]):
    """The tokens of one text as they come. `answer` is there once the last has been taken.

    Raises IncompleteGeneration, with the text so far, when the stream breaks off after its first token;
    before that the request is simply tried again.
    """

    def __init__(self, client: Client, body: dict[str, Any]) -> None:
        self.answer: Answer | None = None
        self._tokens = self._run(client, body)

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> Token:
        return next(self._tokens)

    def close(self) -> None:
        """Hang up; the gateway then stops the work."""
        self._tokens.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, client: Client, body: dict[str, Any]) -> Generator[Token, None, None]:
        attempts = Attempts(client.retries, time.monotonic)
        while True:
            reader = wire.EventReader()
            response = client._answered("POST", "/generate_stream", body, attempts)
            reason = "the connection was closed before the last token"
            failure: ClientError
            try:
                for chunk in response.iter_bytes():
                    attempts.left()
                    for token in reader.feed(chunk):
                        self.answer = token.answer
                        yield token
                    if reader.done:
                        return
                failure = Unreachable(f"{client.url}: {reason}")
            except client._httpx.TransportError as error:
                failure = wire.transport_error(error, client.url)
                reason = str(failure)
            finally:
                response.close()
            if reader.started:
                raise failure if isinstance(failure, TimedOut) else reader.broken(reason)
            time.sleep(attempts.pause(failure))
