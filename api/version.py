"""The version of the installed package; an uninstalled checkout has none."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("inkwell")
except PackageNotFoundError:
    VERSION = "unreleased"
