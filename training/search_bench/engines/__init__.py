"""What runs inside an engine's process: `measure.py`, started as a script, and one module per engine with a class `Engine`.

The environment may be a peer's own, so these files import one another never and `colsearcher` only in `colsearcher_index`.
"""
