"""A small C++ core for decode steps in int8, its compilation, and the decoders that call it."""
