"""A worker's part of an enumeration: stretch after stretch, every program of each goes through its loop."""

from fuzz.bound import Enumeration
from fuzz.produce import Producer
from fuzz.progress import Progress, Stretch
from fuzz.settings import Settings
from fuzz.worker import Worker


def exhaust(settings: Settings, worker: Worker, producer: Producer) -> None:
    """Compare what is left of the bound in the settings' state directory, until nothing is, or the worker is to stop.

    Raises:
        OSError, ValueError: the state cannot be read or written.
    """
    progress, name = Progress(settings.state_path), str(settings.worker)
    programs = Enumeration(progress.read().bound)
    geometry = worker.environment.geometry
    while not worker.is_over():
        stretch: Stretch | None = progress.change(lambda standing: standing.take(name))
        if stretch is None:
            break
        number = stretch.begin
        while number < stretch.end and not worker.is_over():
            program = programs.program(number, geometry)
            worker.accept(producer.predict(program, full=programs.is_full(number)))
            number += 1
        worker.drain()
        progress.change(lambda standing: standing.give_back(name, number))  # noqa: B023
    worker.finish()
