"""A simulation of many gateways and workers: see docs/scale.md."""
