"""End with a clear sentence unless this Python can run Inkwell. Runs before anything is installed."""

import sys

# Written so that old Pythons reach the message too.
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        "Inkwell needs Python 3.10 to 3.13; %s is %d.%d.\n"  # noqa: UP031
        "Name another one, for instance: make install PYTHON=python3.11"
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
try:
    import ensurepip  # noqa: F401
    import venv  # noqa: F401
except ImportError:
    sys.exit("This Python has no venv module. On Debian or Ubuntu: apt-get install python3-venv")
