"""How vectors are stored: float16, or 8, 4, 2 or 1 bits a component after a random rotation. Nothing is trained.

A code of b < 16 bits holds, for a rotated vector y, whole numbers c and one float16 factor f, and stands for f · c:

* `int8`: c in -127 … 127, one byte each;
* `4bit`, `2bit`, `1bit`: c in ±1, ±3, … ±(2^b - 1), stored as u = (c + 2^b - 1) / 2; the byte at j holds the components
  j, j + B, j + 2B, … from its lowest bits up, where B is the number of bytes of a vector.

The grid is scaled to point where y points as well as it can, and f = <y, y> / <c, y> makes <q, y> unbiased over rotations
(Gao et al., Extended RaBitQ, SIGMOD 2025). Inner products with a code are taken from the code: see `kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.rotation import rotate_back, rotate_rows

# Rows that are rotated and encoded at a time: bounds the memory of a build.
_CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class EncodedVectors:
    """Vectors as they are stored: `codes` (N, code_bytes), float16 or uint8; `factors` (N,) float16, empty for `fp16`."""

    codes: np.ndarray
    factors: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> EncodedVectors:
        return EncodedVectors(self.codes[rows], self.factors[rows])


@dataclass(frozen=True)
class Codec:
    """A way of storing vectors. `bits` a component: 16, 8, 4, 2 or 1."""

    name: str
    bits: int

    @property
    def rotates(self) -> bool:
        """Whether codes stand for rotated vectors, so that queries have to be rotated too."""
        return self.bits < 16

    def code_columns(self, dim: int) -> int:
        """Columns of the `codes` array of a vector of `dim` components: uint8, or float16 for `fp16`."""
        return dim if self.bits >= 8 else -(-dim * self.bits // 8)

    def bytes_per_vector(self, dim: int) -> int:
        """
        >>> [CODECS[name].bytes_per_vector(128) for name in ("fp16", "int8", "4bit", "2bit", "1bit")]
        [256, 130, 66, 34, 18]
        """
        return 2 * dim if self.bits == 16 else self.code_columns(dim) + 2

    def encode(self, vectors_N_D: np.ndarray) -> EncodedVectors:
        """Codes of float vectors, in memory that grows with the codes only."""
        n, dim = vectors_N_D.shape
        if self.bits == 16:
            return EncodedVectors(np.ascontiguousarray(vectors_N_D, dtype="<f2"), np.empty(0, dtype="<f2"))
        from colsearcher.indexes.kernels.encode import encode_int8, encode_levels

        codes = np.empty((n, self.code_columns(dim)), dtype=np.uint8)
        factors = np.empty(n, dtype=np.float32)
        for start in range(0, n, _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            rotated = rotate_rows(vectors_N_D[rows])
            if self.bits == 8:
                encode_int8(rotated, codes[rows], factors[rows])
            else:
                encode_levels(rotated, self.bits, codes[rows], factors[rows])
        return EncodedVectors(codes, factors.astype("<f2"))

    def decode(self, encoded: EncodedVectors, dim: int) -> np.ndarray:
        """(N, dim) float32: the vectors that codes stand for, turned back.

        >>> x = np.array([[0.6, 0.8, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
        >>> codec = CODECS["4bit"]
        >>> bool(np.abs(codec.decode(codec.encode(x), 8) - x).max() < 0.1)
        True
        """
        if self.bits == 16:
            return encoded.codes.astype(np.float32)
        return rotate_back(self.levels(encoded.codes, dim) * encoded.factors.astype(np.float32)[:, None])

    def levels(self, codes_N_B: np.ndarray, dim: int) -> np.ndarray:
        """(N, dim) float32: the whole numbers c of the codes, not turned back and without their factors."""
        if self.bits == 8:
            return codes_N_B.view(np.int8).astype(np.float32)
        top = (1 << self.bits) - 1
        planes = [(codes_N_B >> shift) & top for shift in range(0, 8, self.bits)]
        return 2 * np.concatenate(planes, axis=1)[:, :dim].astype(np.float32) - top


CODECS = {name: Codec(name, bits) for name, bits in {"fp16": 16, "int8": 8, "4bit": 4, "2bit": 2, "1bit": 1}.items()}


def load_codec(name: str) -> Codec:
    """
    Raises:
        UserError: no codec has this name.
    """
    if name not in CODECS:
        raise UserError(f"There is no codec «{name}»; choose one of {', '.join(CODECS)}.")
    return CODECS[name]
