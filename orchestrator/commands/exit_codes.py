"""How a command ends."""

DONE = 0
FAILED_TRIALS = 1  # the sweep ended, and running it again retries them
BAD_INPUT = 2
INTERRUPTED = 130  # as shells report Ctrl-C
