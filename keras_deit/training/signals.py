"""A first SIGTERM or Ctrl-C is noted, for a run to end at a good place; a second one ends it."""

import signal
import threading


class Stop:
    """Within it as a context, ``number`` is that of the signal that came, 0 before."""

    def __init__(self):
        self.number, self.handlers = 0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.handlers[number] = signal.signal(number, self._note)
        return self

    def _note(self, number, frame):
        self.number = number
        signal.signal(number, self.handlers[number])

    def __exit__(self, *error):
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
