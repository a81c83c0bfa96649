"""Trains GCN and GraphSAGE (mean) of two layers on a graph store and exports them with `satisfice.export_pyg`.

    python train.py DATA [--kinds gcn2 sage2] [--steps 80] [--out DATA/models]

DATA is what `satisfice generate` makes: `graph/`, `split.safetensors`. Models go to OUT/KIND and serve OUT/../graph, which may be
another graph than DATA: one of the same preset and seed in another `--scale` has the same classes, so that a tenth of a graph
trains a model for the whole in a tenth of the time.
The first layer's aggregation has no weights in it, so it is computed once; every step then computes the
second layer for some of the training nodes, with all their neighbours.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional
from torch_geometric.nn.models import GCN, GraphSAGE

from satisfice import export_pyg
from serving import StoredGraph

HIDDEN = 128
DROPOUT = 0.3
KINDS = {"gcn2": GCN, "sage2": GraphSAGE}
COLUMNS = 128
"""Features that are aggregated at a time, to bound memory."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path, help="where models go; DATA/models if absent")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--targets", type=int, default=16_384, help="training nodes in a step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    graph = StoredGraph(options.data / "graph")
    labels = load_file(options.data / "graph" / "labels.safetensors")["y"]
    split = load_file(options.data / "split.safetensors")["split"]
    for kind in options.kinds:
        start = time.perf_counter()
        trainer = Trainer(kind, graph, labels, split)
        accuracy = trainer.train(options.steps, options.targets)
        seconds = time.perf_counter() - start
        print(f"{kind}: {100 * accuracy:.2f} % on validation nodes, {seconds:.0f} s", flush=True)
        export_pyg(
            trainer.model,
            None,
            (options.out or options.data / "models") / kind,
            default_plan="recompute:25%" if kind == "gcn2" else "pe",
            graph_store="../../graph",
            overwrite=True,
        )


class Product(torch.autograd.Function):
    """A sparse matrix times a dense one, with the transposed matrix for the way back."""

    @staticmethod
    def forward(context, dense, matrix, transposed):
        context.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(context, gradient):
        return context.transposed @ gradient.contiguous(), None, None


class Trainer:
    """A model of a kind, and what its layers aggregate."""

    def __init__(
        self, kind: str, graph: StoredGraph, labels: np.ndarray, split: np.ndarray
    ) -> None:
        torch.manual_seed(0)
        self.kind = kind
        self.rng = np.random.default_rng(0)
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.train_nodes, self.validation_nodes = np.flatnonzero(split == 0), np.flatnonzero(split == 1)
        shape = (graph.nodes, graph.nodes)
        ones = np.ones(len(graph.indices), np.float32)
        self.adjacency = scipy.sparse.csr_matrix((ones, graph.indices, graph.indptr), shape=shape)
        self.x = torch.from_numpy(graph.x)
        degrees = torch.from_numpy(graph.degrees.astype(np.float32))[:, None]
        if kind == "gcn2":
            self.source_scale = self.target_scale = (degrees + 1).rsqrt()
        else:
            self.source_scale, self.target_scale = torch.ones_like(degrees), 1 / degrees.clamp(min=1)
        whole = _tensor(self.adjacency)
        self.first = torch.cat(
            [self._aggregate(whole, columns) for columns in self.x.split(COLUMNS, 1)], 1
        )
        classes = int(labels.max()) + 1
        self.model = KINDS[kind](self.x.shape[1], HIDDEN, 2, classes, dropout=DROPOUT)

    def _aggregate(self, whole: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        scaled = columns * self.source_scale
        summed = whole @ scaled
        if self.kind == "gcn2":
            summed += scaled
        return summed.mul_(self.target_scale)

    def train(self, steps: int, targets: int) -> float:
        """Keeps the weights of the best validation; returns its accuracy."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, weight_decay=1e-5)
        validate = self._product(self.validation_nodes)
        best, state = 0.0, self.model.state_dict()
        for step in range(1, steps + 1):
            nodes = self.rng.choice(self.train_nodes, min(targets, len(self.train_nodes)), replace=False)
            self.model.train()
            optimizer.zero_grad()
            logits = self._forward(nodes, self._product(nodes))
            functional.cross_entropy(logits, self.labels[nodes]).backward()
            optimizer.step()
            if step % 10 and step != steps:
                continue
            self.model.eval()
            with torch.no_grad():
                predicted = self._forward(self.validation_nodes, validate).argmax(1)
            accuracy = float((predicted == self.labels[self.validation_nodes]).float().mean())
            print(f"{self.kind}: step {step}, {100 * accuracy:.2f} %", flush=True)
            if accuracy > best:
                best, state = accuracy, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(state)
        self.model.eval()
        return best

    def _product(self, nodes: np.ndarray) -> Callable[[torch.Tensor], torch.Tensor]:
        rows = self.adjacency[nodes]
        matrix, transposed = _tensor(rows), _tensor(rows.T.tocsr())
        return lambda dense: Product.apply(dense, matrix, transposed)

    def _forward(
        self, nodes: np.ndarray, product: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """What the model computes for some nodes."""
        below, above = self.model.convs
        scale = self.target_scale[nodes]
        if self.kind == "gcn2":
            h = functional.relu(functional.linear(self.first, below.lin.weight, below.bias))
            sent = self._dropped(h) @ above.lin.weight.T * self.source_scale
            return (product(sent) + sent[nodes]) * scale + above.bias
        h = below.lin_l(self.first) + functional.linear(self.x, below.lin_r.weight)
        h = self._dropped(functional.relu(h))
        sent = h @ above.lin_l.weight.T
        return product(sent) * scale + above.lin_l.bias + above.lin_r(h[nodes])

    def _dropped(self, h: torch.Tensor) -> torch.Tensor:
        return functional.dropout(h, DROPOUT, self.model.training)


def _tensor(matrix: scipy.sparse.csr_matrix) -> torch.Tensor:
    parts = (matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data)
    return torch.sparse_csr_tensor(*map(torch.from_numpy, parts), size=matrix.shape)


if __name__ == "__main__":
    main()
