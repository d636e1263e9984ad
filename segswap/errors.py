"""The one exception for everything a user can put right."""


class InputError(Exception):
    """Bad input: the message names the file or key, what was expected, what was found, and the remedy.

    Programs print the message without a traceback and leave with status 1; library code may catch it.
    """
