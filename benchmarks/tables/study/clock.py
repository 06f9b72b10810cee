"""How long what is left will take."""

from benchmarks.tables.study.rows import Job

_PER_ROW = {"digits": 0.03, "mnist": 0.2, "fashion-mnist": 0.2, "cifar10": 0.25}
_PER_IMAGE = {"digits": 7e-5, "mnist": 1.1e-4, "fashion-mnist": 1.1e-4, "cifar10": 5e-5}
_EPOCH = {"digits": 800, "mnist": 55_000, "fashion-mnist": 55_000, "cifar10": 45_000}
_LONG = 1.4  # the teacher's pass and the augmentation


class Clock:
    """A rough model of a row's seconds, corrected by what rows took."""

    def __init__(self) -> None:
        self._expected = self._taken = 0.0

    def expect(self, job: Job) -> float:
        """Return the model's seconds of a row."""
        images = _LONG * _EPOCH[job.task] * job.images if job.part == "long" else job.images
        return _PER_ROW[job.task] + _PER_IMAGE[job.task] * images

    def took(self, job: Job, seconds: float) -> None:
        """Note what a row took."""
        self._expected += self.expect(job)
        self._taken += seconds

    def hours(self, expected: float) -> float:
        """Return the model's seconds as corrected hours."""
        return expected / 3600 * (self._taken / self._expected if self._expected else 1.0)
