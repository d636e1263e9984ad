"""What the server says no to: a request that cannot be answered, with its HTTP status."""


class Refused(Exception):
    """A request that is not answered: ``status`` is HTTP's, the text says what was expected and what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
