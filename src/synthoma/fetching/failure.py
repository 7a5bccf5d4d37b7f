"""What goes wrong while data are fetched."""

from synthoma.errors import SynthomaError


class FetchError(SynthomaError):
    """Data cannot be fetched, or what arrived is not what was asked for."""
