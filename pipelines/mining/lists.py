"""Many short lists in two arrays: a few bytes a value, where Python's own take a hundred and more."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Lists:
    """Of each owner, counted from 0, its different values, ascending."""

    stops: NDArray[np.int64]  # (owners,): where each one's values end
    values: NDArray[Any]

    @classmethod
    def of(cls, owners: NDArray[np.integer], values: NDArray[Any], num_owners: int) -> "Lists":
        """Of pairs in any order, repeated or not."""
        order = np.lexsort((values, owners))
        owners, values = owners[order], values[order]
        is_new = np.ones(len(owners), bool)
        is_new[1:] = (owners[1:] != owners[:-1]) | (values[1:] != values[:-1])
        return cls(np.searchsorted(owners[is_new], np.arange(num_owners), side="right"), values[is_new])

    @classmethod
    def none(cls, num_owners: int) -> "Lists":
        """Of ids, for so many owners."""
        return cls(np.zeros(num_owners, np.int64), np.empty(0, "S32"))

    def __len__(self) -> int:
        return len(self.stops)

    def __getitem__(self, owner: Any) -> NDArray[Any]:
        """One owner's values."""
        return self.values[self.start(owner) : self.stops[owner]]

    def start(self, owner: int) -> int:
        """Where an owner's values begin."""
        return int(self.stops[owner - 1]) if owner else 0

    def owners(self) -> NDArray[np.int64]:
        """Of each value."""
        return np.repeat(np.arange(len(self.stops)), np.diff(self.stops, prepend=0))

    def where(self, is_kept: NDArray[np.bool_]) -> "Lists":
        """Of the same owners, some of the values."""
        return Lists.of(self.owners()[is_kept], self.values[is_kept], len(self.stops))

    def within(self, start: int, stop: int) -> "Lists":
        """Of the owners from start to stop, counted from start."""
        first = self.start(start)
        return Lists(self.stops[start:stop] - first, self.values[first : self.start(stop)])

    def only(self, owners: NDArray[np.integer]) -> "Lists":
        """Of some owners, ascending, counted anew."""
        number = np.full(len(self.stops), -1, np.int64)
        number[owners] = np.arange(len(owners))
        own = number[self.owners()]
        return Lists.of(own[own >= 0], self.values[own >= 0], len(owners))
