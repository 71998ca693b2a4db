"""Whether a server can be reached, in seconds: download libraries retry for minutes."""

import ssl
import threading
import time
import urllib.error
import urllib.request

SECONDS = 8  # in which a server must answer
TRIES = 2
SECONDS_BETWEEN_TRIES = 1


def check_reachable(url):
    """Checks that a server answers, whatever it answers. Proxies of the environment are used.

    Args:
        url: str. An http or https address; of others nothing is checked.

    Raises:
        OSError: no server answers within ``SECONDS``.
    """
    if not url.startswith(("http://", "https://")):
        return

    # In a thread: looking up a name has no time limit that could be set.
    errors = [TimeoutError(f"no answer in {SECONDS} seconds")]
    thread = threading.Thread(target=_try, args=(url, errors), daemon=True)
    thread.start()
    thread.join(SECONDS)
    if errors:
        host = url.split("/")[2]
        raise OSError(f"no connection to {host}: {errors[-1]}")


def _try(url, errors):
    """Empties ``errors`` if the server answers; else adds the reasons."""
    for number in range(TRIES):
        time.sleep(number * SECONDS_BETWEEN_TRIES)
        error = _connection_error(url)
        if error is None:
            errors.clear()
            return
        errors.append(error)


def _connection_error(url):
    """Why the server does not answer; None if it does."""
    try:
        # A GET, which every server knows. Its content is not read.
        urllib.request.urlopen(url, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return None
    except Exception as error:  # of the name, of the connection, or of an answer that is no HTTP
        reason = getattr(error, "reason", error)
        # A certificate that Python does not trust is an answer: libraries have their own.
        return None if isinstance(reason, ssl.SSLError) else reason
    return None
