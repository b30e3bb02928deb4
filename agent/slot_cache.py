"""Keys and values of many conversations in one block of memory, each in a slot of its own that it keeps while it is paused.

Slots are rows of one tensor per layer and grow to the right, so a conversation that waits for documents costs no copy, and
rows of any lengths go through the model together: where a token is written and what it may look at is said per row, by
`plan`. Left out: layers without keys and values (linear attention), and which tokens are
where (`transformers_engine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

_FIRST_LENGTH = 256
# Slots that are looked at for each that is wanted: a copy of what is wanted takes longer.
_BETWEEN = 3


@dataclass
class Step:
    """Where the tokens of the coming forward pass go, and what they see.

    Attributes:
        rows_R: the slots.
        first, count: the slots whose keys and values are given, S of them: from the first on, or (count 0) those of `rows_R`.
        within_R: the place of each of `rows_R` among them.
        columns_R_N: where in its slot each token is written.
        positions_R_N: the place of each token in its conversation, 0 for padding.
        seen_S_1_N_K: bool, what each token may look at.
        length: K.
        slots, capacity: what the cache has to have.
    """

    rows_R: torch.Tensor
    first: int
    count: int
    within_R: torch.Tensor
    columns_R_N: torch.Tensor
    positions_R_N: torch.Tensor
    seen_S_1_N_K: torch.Tensor
    length: int
    slots: int
    capacity: int


class _SlotLayer(CacheLayerMixin):
    """One layer's keys and values: (slots, heads, capacity, dim)."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.step: Step | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states.new_zeros((0, key_states.shape[1], 0, key_states.shape[3]))
        self.values = value_states.new_zeros((0, value_states.shape[1], 0, value_states.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (R, heads, N, dim) and give what the slots have so far: (S, heads, length, dim) each."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.step is not None and self.keys is not None and self.values is not None
        step = self.step
        self.keys, self.values = (_grown(t, step.slots, step.capacity) for t in (self.keys, self.values))
        rows_R_1 = step.rows_R[:, None]
        self.keys[rows_R_1, :, step.columns_R_N] = key_states.transpose(1, 2)
        self.values[rows_R_1, :, step.columns_R_N] = value_states.transpose(1, 2)
        return self._rows(self.keys), self._rows(self.values)

    def _rows(self, stored: torch.Tensor) -> torch.Tensor:
        assert self.step is not None
        first, count = self.step.first, self.step.count
        if count:  # no copy
            return stored[first : first + count, :, : self.step.length]
        return stored[self.step.rows_R, :, : self.step.length]

    def copy(self, source: int, target: int, length: int) -> None:
        for stored in (self.keys, self.values):
            if stored is not None and source != target:
                stored[target, :, :length] = stored[source, :, :length]

    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):
    """A transformers cache of `layers` layers. Call `plan` before each forward pass and hand
    what it says to the model."""

    def __init__(self, layers: int) -> None:
        self._own = [_SlotLayer() for _ in range(layers)]
        super().__init__(layers=list(self._own))
        self._slots = 0
        self._capacity = _FIRST_LENGTH

    def plan(
        self, rows: Sequence[int], before: Sequence[int], new: Sequence[int], device: torch.device, *, between: bool
    ) -> Step:
        """Say where the tokens of the next forward pass go.

        Args:
            rows: the slots in rising order, R of them.
            before: how many tokens each has already.
            new: how many come to each; the batch has N = max(new) columns and a row's tokens are the last of them.
            between: slots that lie between those of `rows` may be given with them, where that is less than a copy.
        """
        width, longest = max(new), max(b + n for b, n in zip(before, new, strict=True))
        while self._capacity <= longest:  # the last column takes padding and is never looked at
            self._capacity *= 2
        self._slots = max(self._slots, rows[-1] + 1)
        before_R_1, new_R_1 = (torch.tensor(counts, device=device)[:, None] for counts in (before, new))
        place_N = torch.arange(width, device=device)
        columns_R_N = before_R_1 + place_N - (width - new_R_1)
        real_R_N = place_N >= width - new_R_1
        seen_R_N_K = torch.arange(longest, device=device) <= columns_R_N[:, :, None]
        seen_R_N_K[:, :, 0] |= ~real_R_N  # a row of a softmax needs something to look at
        rows_R = torch.tensor(rows, device=device)
        count = rows[-1] - rows[0] + 1
        if count > len(rows) and not (between and width == 1 and count <= _BETWEEN * len(rows)):
            count = 0
        within_R = rows_R - rows[0] if count else torch.arange(len(rows), device=device)
        seen_S_1_N_K = seen_R_N_K[:, None]
        if count > len(rows):
            seen_S_1_N_K = seen_R_N_K.new_zeros((count, 1, width, longest))
            seen_S_1_N_K[..., 0] = True
            seen_S_1_N_K[within_R] = seen_R_N_K[:, None]
        step = Step(
            rows_R,
            rows[0],
            count,
            within_R,
            torch.where(real_R_N, columns_R_N, self._capacity - 1),
            columns_R_N.clamp(min=0),
            seen_S_1_N_K,
            longest,
            self._slots,
            self._capacity,
        )
        for layer in self._own:
            layer.step = step
        return step

    @torch.inference_mode()
    def share(self, source: int, target: int, length: int) -> None:
        """Give a slot the first `length` tokens of another."""
        self._slots = max(self._slots, target + 1)
        for layer in self._own:
            if layer.is_initialized:
                assert layer.keys is not None and layer.values is not None
                layer.keys, layer.values = (_grown(t, self._slots, self._capacity) for t in (layer.keys, layer.values))
                layer.copy(source, target, length)


def _grown(stored: torch.Tensor, slots: int, capacity: int) -> torch.Tensor:
    """The tensor with room for more slots and columns; what is new is zero, for nothing may be infinite behind a mask."""
    have_slots, heads, have_columns, dim = stored.shape
    if have_slots >= slots and have_columns >= capacity:
        return stored
    # Slots come one by one: half as many again, so that not every new one is a copy of all.
    grown = stored.new_zeros((max(slots, min(2 * have_slots, slots + 8)), heads, max(capacity, have_columns), dim))
    grown[:have_slots, :, :have_columns] = stored
    return grown
