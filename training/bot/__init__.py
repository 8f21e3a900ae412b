"""The bot behind `inkwell post`: draws texts, chooses one that suits the platform, and posts it exactly once.

candidates  texts from a gateway or a local bundle
choosing    which of them may be posted: length, novelty, block list, what was posted before
history     what was posted, and what may have been when a run died (SQLite)
platforms/  X, Mastodon, Bluesky, Discord, standard output
posting     the order of all that
schedule    the same every few hours, with retries; runs holds how each ended
"""
