"""The files of the example: stored graph, held-out queries, models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn.models import GCN, GraphSAGE

from satisfice import export_graph, export_pyg, write_queries

HERE = Path(__file__).parent
HIDDEN = 128
DROPOUT = 0.3
KINDS = {"gcn2": GCN, "sage2": GraphSAGE}
DEFAULT_PLANS = {"gcn2": "recompute:25%", "sage2": "pe"}


@dataclass
class Packages:
    """All packages and which of them are held out as queries."""

    names: list[str]
    x: np.ndarray
    y: np.ndarray
    class_names: list[str]
    needs: np.ndarray
    """[2, E]: package, package that it needs."""
    is_query: np.ndarray


def write_graphs(packages: Packages, out: Path) -> None:
    """Writes `graph.safetensors` and `queries.safetensors`: the graph symmetrised, cut in two."""
    stored, queries = np.flatnonzero(~packages.is_query), np.flatnonzero(packages.is_query)
    position = np.empty(len(packages.names), np.int64)
    position[stored], position[queries] = np.arange(len(stored)), np.arange(len(queries))
    source, target = symmetrise(packages.needs)
    source_is_query, target_is_query = packages.is_query[source], packages.is_query[target]

    def edges(mask: np.ndarray) -> np.ndarray:
        return np.stack([position[source[mask]], position[target[mask]]])

    x = packages.x.astype(np.float16)
    export_graph(
        out / "graph.safetensors",
        edges(~source_is_query & ~target_is_query),
        x[stored],
        packages.y[stored],
        ids=[packages.names[i] for i in stored],
        class_names=packages.class_names,
        undirected=True,
        overwrite=True,
    )
    write_queries(
        out / "queries.safetensors",
        x[queries],
        edges(source_is_query & ~target_is_query),
        stored_nodes=len(stored),
        query_edge_index=edges(source_is_query & target_is_query),
        y=packages.y[queries],
        names=[packages.names[i] for i in queries],
        overwrite=True,
    )


def symmetrise(edges: np.ndarray) -> np.ndarray:
    """Every edge [2, E] both ways, without duplicates and self-loops."""
    edges = edges[:, edges[0] != edges[1]].astype(np.int64)
    return np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)


def load_graph(directory: Path) -> Data:
    """The stored graph for PyTorch Geometric, features as float32."""
    tensors = load_file(directory / "graph.safetensors")
    return Data(
        x=torch.from_numpy(tensors["x"].astype(np.float32)),
        edge_index=torch.from_numpy(tensors["edge_index"].astype(np.int64)),
        y=torch.from_numpy(tensors["y"]),
    )


def make_model(kind: str, features: int, classes: int) -> nn.Module:
    """An untrained model of two layers."""
    return KINDS[kind](features, HIDDEN, 2, out_channels=classes, dropout=DROPOUT)


def load_model(kind: str, directory: Path) -> nn.Module:
    """A trained model of the example, in evaluation mode."""
    weights = load_file(directory / "models" / kind / "1" / "weights.safetensors")
    linear = "lin" if kind == "gcn2" else "lin_l"
    features = weights[f"convs.0.{linear}.weight"].shape[1]
    classes = weights[f"convs.1.{linear}.weight"].shape[0]
    model = make_model(kind, features, classes)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model.eval()


def export_model(kind: str, model: nn.Module, directory: Path) -> None:
    """Writes `models/<kind>`, whose graph store is `models/graph`."""
    export_pyg(
        model,
        None,
        directory / "models" / kind,
        default_plan=DEFAULT_PLANS[kind],
        graph_store="../graph",
        overwrite=True,
    )
