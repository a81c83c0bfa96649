"""Compares the reference logits of the example with PyTorch Geometric's, or makes them anew.

python check_references.py
python check_references.py --write
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import Tensor, nn

import bundle

BATCHES = (256, 1024)
BUDGET = 0.25
TOLERANCE = 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=bundle.HERE)
    parser.add_argument("--write", action="store_true", help="replace reference.safetensors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = make_references(arguments.directory)
    path = arguments.directory / "reference.safetensors"
    if arguments.write:
        path.write_bytes(save(made))
        return 0
    return compare(load_file(path), made)


def make_references(directory: Path) -> dict[str, np.ndarray]:
    """Query positions of each batch, and the answers of each model and plan."""
    graph, queries = bundle.load_graph(directory), load_file(directory / "queries.safetensors")
    shuffled = np.random.default_rng(123).permutation(len(queries["x"]))
    references: dict[str, np.ndarray] = {}
    for size in BATCHES:
        positions = np.sort(shuffled[:size])
        references[f"queries_{size}"] = positions.astype(np.int32)
        batch = attach(graph, queries, positions)
        references[f"recompute_ids_{size}"] = batch.most_changed.astype(np.int32)
        for kind in bundle.KINDS:
            answers = serve(bundle.load_model(kind, directory), graph, batch)
            labels = queries["y"][positions]
            for plan, logits in answers.items():
                references[f"{kind}_{plan}_{size}"] = logits
                accuracy = 100 * (logits.argmax(1) == labels).mean()
                print(f"{kind} {plan}, {size} queries: {accuracy:.2f} %")
    return references


@dataclass
class Batch:
    """A batch of queries attached to the stored graph."""

    x: Tensor
    """Features of stored nodes and queries."""
    edges: Tensor
    """[2, E] of both; queries count on from the stored nodes."""
    most_changed: np.ndarray
    """The top 25 % of the queries' unique neighbours by n / (n + d), ties by position."""


def attach(graph: Any, queries: dict[str, np.ndarray], positions: np.ndarray) -> Batch:
    """The stored graph with some of the queries and all edges between what is there."""
    nodes = graph.num_nodes
    row = np.full(len(queries["x"]), -1)
    row[positions] = np.arange(len(positions))
    query, stored = queries["edge_index"][:, row[queries["edge_index"][0]] >= 0]
    between = row[queries["query_edge_index"]]
    between = between[:, (between >= 0).all(axis=0)] + nodes
    outward = np.stack([row[query] + nodes, stored])
    edges = [graph.edge_index, *map(torch.from_numpy, (outward, outward[::-1].copy(), between))]
    x = queries["x"][positions].astype(np.float32)
    return Batch(
        x=torch.cat([graph.x, torch.from_numpy(x)]),
        edges=torch.cat(edges, dim=1),
        most_changed=most_changed(graph, stored),
    )


def most_changed(graph: Any, stored_ends: np.ndarray) -> np.ndarray:
    """The stored nodes that a budget of 25 % recomputes, ascending."""
    old = np.bincount(graph.edge_index[1].numpy(), minlength=graph.num_nodes)
    candidates, new = np.unique(stored_ends, return_counts=True)
    score = new / (new + old[candidates])
    count = int(np.floor(BUDGET * len(candidates) + 0.5))
    return np.sort(candidates[np.lexsort((candidates, -score))[:count]])


@torch.no_grad()
def serve(model: nn.Module, graph: Any, batch: Batch) -> dict[str, np.ndarray]:
    """Logits of the queries under each plan, for a model of two layers."""
    nodes = graph.num_nodes
    first, second = model.convs
    stale = first(graph.x, graph.edge_index).relu()
    fresh = first(batch.x, batch.edges).relu()
    only_queries = torch.cat([stale, fresh[nodes:]])
    recomputed = only_queries.clone()
    recomputed[batch.most_changed] = fresh[batch.most_changed]
    rows = {"exact": fresh, "pe": only_queries, "recompute_25": recomputed}
    return {plan: second(row, batch.edges)[nodes:].numpy() for plan, row in rows.items()}


def compare(wanted: dict[str, np.ndarray], made: dict[str, np.ndarray]) -> int:
    """Prints every difference; 0 where there is none."""
    problems = sorted(wanted.keys() ^ made.keys())
    for name in sorted(wanted.keys() & made.keys()):
        if wanted[name].shape != made[name].shape:
            problems.append(f"{name}: other shape")
        elif (gap := np.abs(wanted[name].astype(np.float64) - made[name]).max()) > TOLERANCE:
            problems.append(f"{name}: differs by {gap:.2e}")
    print("\n".join(problems) or f"all references agree within {TOLERANCE}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
