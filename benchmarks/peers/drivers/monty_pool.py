"""pydantic-monty: an interpreter of its own for a part of Python, in a worker process."""

from _serve import Base, serve
from pydantic_monty import CollectString, Monty, MontyRuntimeError


class Session(Base):
    def start(self):
        self._monty = Monty()
        self._pool = self._monty.__enter__()
        self._check_out()

    def _check_out(self):
        self._checkout = self._pool.checkout()
        self._session = self._checkout.__enter__()

    def call(self, code):
        printed = CollectString(None)
        try:
            value = self._session.feed_run(code, print_callback=printed)
        except MontyRuntimeError as error:
            return f"{printed.output}{error}"
        return printed.output + ("" if value is None else f"{value!r}\n")

    def reset(self):
        self._checkout.__exit__(None, None, None)
        self._check_out()

    def stop(self):
        self._checkout.__exit__(None, None, None)
        self._monty.__exit__(None, None, None)


serve(Session())
