"""What runs on a node of a Ray cluster. Sent there as code, so it must import nothing of this project at the top."""

from typing import Any


def run_there(import_path: list[str], expected: dict[str, str], message: bytes, secrets: dict[str, str]) -> Any:
    """Do one pickled task on this node: `(result, error, trace)`.

    Args:
        import_path: the sys.path of the parent; what of it is not on this node does no harm.
        expected: the versions that the parent runs; other ones could make other bytes.
        message: the pickled job, without its secrets, which travel by themselves: a large argument may be spilled to
            disk, a small one never is.
        secrets: environment variables for the time of the task.
    """
    import os
    import pickle
    import socket
    import sys

    here = f"node {socket.gethostname()}"
    own = [entry for entry in sys.path if entry not in import_path]
    sys.path[:] = [*import_path, *own]
    try:
        from data_prep.engines.attempt import ONE_THREAD

        os.environ.update(ONE_THREAD)
        from data_prep.engines.versions import difference

        other = difference(expected)
        job = None if other else pickle.loads(message)
    except Exception as error:
        text = " ".join(str(error).split())
        advice = f"install provetune {expected['provetune']} on every node, or run from a folder that all share"
        return None, f"engine.kind=ray: {here}: {type(error).__name__}: {text}; {advice}", ""
    if job is None:
        return None, f"engine.kind=ray: {here} has {other}; install the same versions on every node", ""
    from dataclasses import replace

    from data_prep.engines.attempt import attempt

    outcome = attempt(replace(job, secrets=secrets))
    return outcome.result, outcome.error, outcome.trace
