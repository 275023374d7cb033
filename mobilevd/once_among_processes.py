"""One word for all processes of a launcher: a mistake that all of them meet is told once, and a lost process, too."""

from __future__ import annotations

import hashlib
import os

LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "socket timeout",
    "connection was aborted",
)
"""What the exchanges between processes say when one of them is gone."""


def several_processes() -> bool:
    """True in a process that a launcher started beside others."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1) > 1


def is_mine_to_tell(text: str) -> bool:
    """True in the first process that asks for this text, and where there is one process, or nobody to ask."""
    if not several_processes():
        return True
    try:
        return _store().add(f"mobilevd/told/{hashlib.sha256(text.encode()).hexdigest()}", 1) == 1
    except Exception:  # the launcher is gone, or has no store: rather twice than never
        return True


def _store():
    """The launcher's store of keys and values, which outlives its processes."""
    from datetime import timedelta

    from torch.distributed import TCPStore

    agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "") == "True"
    if not agents:  # the store is the first process's own, and ends with it
        import torch.distributed as dist

        return dist.distributed_c10d._get_default_store()
    return TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=10)
    )


def lost_process(error: BaseException) -> str | None:
    """What to say of an error that another process's end has caused; None for any other error."""
    if not several_processes():
        return None
    chain: BaseException | None = error
    while chain is not None:
        text = str(chain).lower()
        if any(word in text for word in LOST) or "gloo" in text or "nccl" in text:
            return "another process of this run has ended, so all end; what was saved is kept, and the same command goes on"
        chain = chain.__cause__ or chain.__context__
    return None
