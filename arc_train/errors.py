"""The errors a user can cause; each message says what is wrong, where, and what to do."""


class InputError(ValueError):
    """Bad input: a file, key, value or checkpoint that can't be used as it is."""


class NotFoldable(TypeError):
    """The method can't be merged into a plain timm model; the message says why."""
