"""The supervisor as a process of its own: `python -m deploy.background OPTIONS-AS-JSON`."""

from __future__ import annotations

import sys

from deploy.errors import DeployError
from deploy.settings import Options
from deploy.supervisor import serve

if __name__ == "__main__":
    try:
        sys.exit(serve(Options.from_json(sys.argv[1])))
    except DeployError as error:
        print(error)
        sys.exit(error.exit_code)
