"""SIGTERM and Ctrl-C end a run at a good place; a second one ends it at once."""

import signal
import threading


class StopRequest:
    """A context that notes the first SIGTERM or SIGINT instead of ending the process.

    Attributes:
        signal: int. Number of the signal that came; 0 before.
    """

    def __init__(self):
        self.signal = 0
        self._handlers = {}

    def __enter__(self):
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def _note(self, number, frame):
        self.signal = number
        signal.signal(number, self._handlers[number])

    def __exit__(self, *error):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
