"""The one kind of error that a user can mend."""


class InputError(ValueError):
    """
    Bad input from a user: a file, a table, a data list, a checkpoint or a config value.

    The message names the file or key, says what is wrong with it, and how to mend it. Scripts and workflows print it
    alone, scripts with status 2 (:func:`miram.cli.main_guard`); every other exception keeps its traceback, and its
    cause comes last (:func:`miram.causes.explain`).
    """
