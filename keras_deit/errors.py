"""What a user can put right."""


class UserError(ValueError):
    """Something given from outside (a flag, a name, a path, a file, a shape) is not usable.

    The message says in one line what was wrong, what was expected and what to do; commands print
    it without a traceback and exit with code 2.
    """
