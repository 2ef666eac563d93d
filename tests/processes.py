"""What /proc says of a process."""

from pathlib import Path


def state_of(pid: int) -> str:
    """Its letter (proc_pid_stat(5)); "" if it is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
