"""Edit the facial expression in a photograph by FACS Action Units, and keep the person.

>>> from eggan import Editor
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eggan.editor import Editor
    from eggan.errors import EgganError

__all__ = ["Editor", "EgganError", "__version__"]
__version__ = version("eggan")


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import torch and the networks only when they are asked for."""
    if name == "Editor":
        from eggan.editor import Editor

        return Editor
    if name == "EgganError":
        from eggan.errors import EgganError

        return EgganError
    raise AttributeError(f"module 'eggan' has no attribute {name!r}")
