"""The one exception that stands for a mistake of the user's rather than of the program's."""


class InputError(ValueError):
    """Settings or files that cannot be used; the message quotes the offending value and says what to do.

    The ``b2t`` command prints it without a traceback.
    """
