"""Planted faults, one module a kind; FAULT of `--plant CELL=WHEN:FAULT` is MODULE.FUNCTION here."""
