"""A sink as a user would write one: it keeps the steps that it hears of in a file beside the source model."""

from pathlib import Path

from pipelines.students.training.sinks import Line, Sink, Training


class Heard(Sink):
    def __init__(self, training: Training) -> None:
        self._file = heard_file(training.config["source_model"], training.name)

    def step(self, line: Line) -> None:
        with self._file.open("a") as file:
            print(line["step"], file=file)


def heard_file(source_model: str, name: str) -> Path:
    return Path(source_model).with_name(f"heard_{name}.txt")
