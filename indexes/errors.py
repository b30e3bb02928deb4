"""The few errors that ColSearcher raises on purpose.

Each message is one sentence that says what is wrong and one that says what to do. The command line prints it without a
traceback. `UserError` and its subclasses exit with 2 (the input is wrong); every other exception exits with 1 (our fault).
"""


class ColSearcherError(Exception):
    """Base class: `except ColSearcherError` catches everything raised on purpose."""


class UserError(ColSearcherError):
    """The user's input is wrong: a path, an option, a question, a filter."""


class FileProblem(UserError):
    """A source file cannot be read. The run goes on without it and names it with this reason."""


class IndexProblem(UserError):
    """An index is missing, belongs to another embedder, is locked or is damaged."""


class ModelProblem(UserError):
    """A model is unknown, its weights are missing, or they are not the pinned ones."""


class MissingExtra(UserError):
    """A command needs an optional package or program that is not installed."""
