"""The only kind of error that a user can fix."""


class InputError(ValueError):
    """
    Bad input from a user: a file, a table, a data list, a checkpoint or a config value.

    The message names the file or key, says what is wrong with it, and how to fix it. Scripts and workflows print only
    the message, and scripts exit with status 2 (:func:`miram.cli.main_guard`). Every other exception keeps its
    traceback, with its cause at the end (:func:`miram.cli.explain`).
    """
