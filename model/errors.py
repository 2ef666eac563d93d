"""How a modelled call ends other than by returning."""


class SyscallError(Exception):
    """The call fails with `errno`. What it changed before that stays changed, as in the kernel.

    `model.run.Run.step` alone catches this. The comment behind each `raise` is the rule; `vmadiff explain` shows it.
    """

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Unmodelled(Exception):
    """The program has reached a state that the model does not cover; `reason` says which.

    It ends the comparison of that program. It is counted and is never a divergence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
