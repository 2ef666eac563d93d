"""The specification: what Linux does to an address space, as pure and deterministic Python.

It knows no kernel, no process and no file: everything it predicts follows from an `abi.environment.Environment`,
a `model.profile.Profile` and a program.
"""
