"""The lexical report: what a corpus looks like, what a model made of it, and how far the two are apart."""
