"""Studies: long measurements that describe the suite itself; not part of `make test`."""

from fixtures.matrix import load_matrix


def cell_of(cell_id):
    """The cell of the matrix with that id. Raises KeyError for another."""
    return {cell.id: cell for cell in load_matrix().all_cells()}[cell_id]
