"""See `IPython`."""

from .getipython import get_ipython

__all__ = ["InteractiveShell"]


class InteractiveShell:
    """The shell's settings."""

    ast_node_interactivity = "last_expr"
    """``all`` to have the value of each expression shown."""

    @classmethod
    def instance(cls) -> object:
        """The shell, where code runs in one."""
        return get_ipython()
