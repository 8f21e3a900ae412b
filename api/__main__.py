"""`python -m api`: the gateway on the host and port of its settings."""

from __future__ import annotations

import gc
import sys

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError

from api import logs
from api.keys import KeyFileError
from api.main import create_app
from api.settings import Settings
from api.shared_sessions import SharedSessionsError
from api.tracing import TracingUnavailableError
from deploy.models_file import ModelsFileError


def main() -> None:
    """Serve until a stop signal. Bad settings end it with one line per fault and status 2."""
    try:
        settings = Settings()
        app = create_app(settings)
    except ValidationError as error:
        for fault in error.errors():
            name = ".".join(str(part) for part in fault["loc"])
            sys.stderr.write(f"setting {name or 'combination'}: {fault['msg']}; got {fault['input']!r}\n")
        sys.exit(2)
    except (
        SettingsError,
        ModelsFileError,
        KeyFileError,
        TracingUnavailableError,
        SharedSessionsError,
        OSError,
    ) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    logs.configure(settings.log_level)
    # What is loaded stays. Looking for garbage among it again and again costs every request.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        # Nothing here asks where a request came from before the last proxy, or what the server is called.
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
