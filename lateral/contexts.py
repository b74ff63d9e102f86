"""The order in which a tissue is spelled out, and for each cell the earlier cells that stand nearest to it.

The chain rule of entropies (`lateral.bounds`) holds in any order. It gives the tightest bound where each cell comes
beside cells that have come before: along a row from one end, row by row on a sheet.
"""

import heapq
from itertools import count

from lateral.geometry import Geometry

__all__ = ["contexts_and_distances", "contexts_of", "order_of_cells"]


def order_of_cells(geometry: Geometry) -> list[int]:
    """All cells, each time the one with the most neighbours before it (Tarjan & Yannakakis 1984), ties by number."""
    neighbours = _neighbours(geometry)
    before, order, placed = [0] * len(neighbours), [], set()
    waiting = [(0, cell) for cell in range(len(neighbours))]
    while waiting:
        _, cell = heapq.heappop(waiting)
        if cell in placed:
            continue  # it came again with more neighbours
        placed.add(cell)
        order.append(cell)
        for other in neighbours[cell]:
            before[other] += 1
            heapq.heappush(waiting, (-before[other], other))
    return order


def contexts_of(geometry: Geometry, size: int) -> list[tuple[int, list[int]]]:
    """For each cell, in `order_of_cells`, at most `size` earlier cells, the nearest first.

    The distance of two cells is the number of steps from neighbour to neighbour. Of cells equally far away those come
    first that more shortest paths lead to, then those placed later.
    """
    return [(cell, earlier) for cell, earlier, _ in contexts_and_distances(geometry, size)]


def contexts_and_distances(geometry: Geometry, size: int) -> list[tuple[int, list[int], list[int]]]:
    """The same, with the distance of each earlier cell."""
    neighbours, order = _neighbours(geometry), order_of_cells(geometry)
    place = {cell: number for number, cell in enumerate(order)}
    return [(cell, *_nearest(cell, neighbours, place, min(size, place[cell]))) for cell in order]


def _nearest(cell: int, neighbours: list[list[int]], place: dict[int, int], size: int) -> tuple[list, list]:
    seen, front, found, distances = {cell}, {cell: 1}, [], []
    for distance in count(1):
        if not front or len(found) >= size:
            break
        beyond: dict[int, int] = {}
        for here, paths in front.items():
            for other in neighbours[here]:
                if other not in seen:
                    beyond[other] = beyond.get(other, 0) + paths
        seen |= beyond.keys()
        ranked = sorted(beyond, key=lambda other: (-beyond[other], -place[other]))
        found += [other for other in ranked if place[other] < place[cell]]
        distances += [distance] * (len(found) - len(distances))
        front = beyond
    return found[:size], distances[:size]


def _neighbours(geometry: Geometry) -> list[list[int]]:
    lists = [[] for _ in range(geometry.n_cells)]
    for first, second in geometry.pairs.tolist():
        lists[first].append(second)
        lists[second].append(first)
    return lists
