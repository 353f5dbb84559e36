"""A worker process of the local engine: takes tasks from the parent until that is gone."""

import os
import pickle
import threading
import time
from multiprocessing.connection import Connection

from data_prep.engines.attempt import Outcome, attempt

LOOK_SECONDS = 0.5


def main(descriptor: str, parent: str) -> None:
    """Work off what comes through the connection; nothing is ever printed."""
    connection = Connection(int(descriptor))
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # until here stderr told the parent why a worker does not start
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(pickle.dumps(_outcome(message)))


def _outcome(message: bytes) -> Outcome:
    try:
        job = pickle.loads(message)
    except Exception as error:
        text = " ".join(str(error).split())
        return Outcome(error=f"a task cannot be read in a worker process: {type(error).__name__}: {text}")
    return attempt(job)


def _end_with(parent: int) -> None:
    """End in the midst of a task when the parent was killed: nobody waits for it."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
