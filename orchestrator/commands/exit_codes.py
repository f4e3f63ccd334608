"""How a command ends."""

DONE = 0
FAILED_TRIALS = 1  # the sweep ended, but not with all that was asked for
BAD_INPUT = 2  # or surroundings in which it can't run
INTERRUPTED = 130  # as shells report Ctrl-C
