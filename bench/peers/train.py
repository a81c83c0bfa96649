"""Trains GCN, GraphSAGE (mean) and GAT on a graph store and exports them with `satisfice.export_pyg`.

    python train.py DATA [--kinds gcn sage gat] [--layers 2] [--steps 150] [--out DATA/models]

DATA is what `satisfice generate` makes: `graph/`, `split.safetensors`; without a split, a tenth of the nodes validates and the others
train. Graphs are undirected. Models go to OUT/gcn2 and so on, and serve OUT/../graph, which may be another graph than DATA: one of the
same preset and seed in another `--scale` has the same classes, so that a tenth of a graph trains a model for the whole in a tenth of
the time.

All learn from whole neighbourhoods, and the last layer is computed for some of the training nodes in every step. The first aggregation
of GCN and GraphSAGE has no weights in it, so it is computed once.
"""

from __future__ import annotations

import argparse
import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional
from torch_geometric.nn import GATConv
from torch_geometric.nn.models import GAT, GCN, GraphSAGE

from satisfice import export_pyg
from serving import StoredGraph

HIDDEN = {"gcn": 128, "sage": 128, "gat": 64}
HEADS = 2
DROPOUT = 0.3
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-5
COLUMNS = 128
"""Features that are aggregated at a time, to bound memory."""
ATTENTION_LEARNING_RATE = 0.0003
"""Of the attention vectors, which meet rows of ten times the size that other weights meet (`_spread`)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=list(HIDDEN), default=["gcn", "sage"])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where models go; DATA/models if absent")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--targets", type=int, default=8_192, help="training nodes in a step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.layers < 2:
        parser.error("--layers: two at least")
    torch.set_num_threads(options.threads)
    data = Data(options.data)
    for kind in options.kinds:
        start = time.perf_counter()
        trainer = make_trainer(kind, options.layers, data)
        accuracy = trainer.train(options.steps, options.targets)
        seconds = time.perf_counter() - start
        print(f"{trainer.name}: {100 * accuracy:.2f} % on validation nodes, {seconds:.0f} s", flush=True)
        export_pyg(
            trainer.model,
            None,
            (options.out or options.data / "models") / trainer.name,
            default_plan="pe" if kind == "sage" else "recompute:25%",
            graph_store="../../graph",
            overwrite=True,
        )


class Data:
    """A stored graph with its labels and split."""

    def __init__(self, path: Path) -> None:
        self.graph = StoredGraph(path / "graph")
        labels = load_file(path / "graph" / "labels.safetensors")["y"]
        self.x = torch.from_numpy(self.graph.x)
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.classes = int(labels.max()) + 1
        file = path / "split.safetensors"
        if file.exists():
            split = load_file(file)["split"]
        else:
            split = np.random.default_rng(11).permutation(len(labels)) < len(labels) // 10
        self.train_nodes, self.validation_nodes = np.flatnonzero(split == 0), np.flatnonzero(split == 1)


class Trainer(ABC):
    """A model, and how to compute it for some nodes."""

    model: nn.Module

    def __init__(self, name: str, data: Data) -> None:
        torch.manual_seed(0)
        self.name = name
        self.data = data
        self.rng = np.random.default_rng(0)

    def parameters(self) -> list[dict[str, Any]]:
        """Groups of weights with their highest learning rates."""
        return [{"params": list(self.model.parameters()), "lr": LEARNING_RATE}]

    @abstractmethod
    def prepare(self, nodes: np.ndarray) -> Callable[[], torch.Tensor]:
        """A function that computes the logits [nodes, classes]."""

    def train(self, steps: int, targets: int) -> float:
        """Keeps the weights of the best validation; returns its accuracy."""
        data = self.data
        groups = self.parameters()
        optimizer = torch.optim.Adam(groups, weight_decay=WEIGHT_DECAY)
        rates = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, steps)
        validate = self.prepare(data.validation_nodes)
        best, state = -1.0, self.model.state_dict()
        for step in range(1, steps + 1):
            count = min(targets, len(data.train_nodes))
            nodes = self.rng.choice(data.train_nodes, count, replace=False)
            self.model.train()
            optimizer.zero_grad()
            loss = functional.cross_entropy(self.prepare(nodes)(), data.labels[nodes])
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 10 and step != steps:
                continue
            self.model.eval()
            with torch.no_grad():
                predicted = validate().argmax(1)
            accuracy = float((predicted == data.labels[data.validation_nodes]).float().mean())
            print(f"{self.name}: step {step}, loss {loss:.3f}, {100 * accuracy:.2f} %", flush=True)
            if accuracy > best:
                best, state = accuracy, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(state)
        self.model.eval()
        return best


class Product(torch.autograd.Function):
    """A sparse matrix times a dense one, with the transposed matrix for the way back."""

    @staticmethod
    def forward(context, dense, matrix, transposed):
        context.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(context, gradient):
        return context.transposed @ gradient.contiguous(), None, None


class WholeNeighbourhoods(Trainer):
    """GCN and GraphSAGE: sums over neighbours as products with a sparse matrix."""

    def __init__(self, kind: str, layers: int, data: Data) -> None:
        super().__init__(f"{kind}{layers}", data)
        self.is_gcn = kind == "gcn"
        graph = data.graph
        ones = np.ones(len(graph.indices), np.float32)
        shape = (graph.nodes, graph.nodes)
        self.adjacency = scipy.sparse.csr_matrix((ones, graph.indices, graph.indptr), shape=shape)
        degrees = torch.from_numpy(graph.degrees.astype(np.float32))[:, None]
        if self.is_gcn:
            self.source_scale = self.target_scale = (degrees + 1).rsqrt()
        else:
            self.source_scale, self.target_scale = torch.ones_like(degrees), 1 / degrees.clamp(min=1)
        # Generated graphs are undirected: the matrix is its own transpose.
        whole = _tensor(self.adjacency)
        self.whole = lambda dense: Product.apply(dense, whole, whole)
        with torch.no_grad():
            columns = data.x.split(COLUMNS, 1)
            self.first = torch.cat([self._aggregated(part, self.whole) for part in columns], 1)
        make = GCN if self.is_gcn else GraphSAGE
        width = data.x.shape[1]
        self.model = make(width, HIDDEN[kind], layers, data.classes, dropout=DROPOUT)
        self._spread()

    @torch.no_grad()
    def _spread(self) -> None:
        """Scales the first weights so that every layer's parts begin with values of variance 1.

        Means over hundreds of neighbours are near nought: without this, learning takes many times the steps.
        """
        self.model.eval()
        h = self.data.x
        for level, conv in enumerate(self.model.convs):
            aggregated = self.first if level == 0 else self._aggregated(h, self.whole)
            maps = [(conv.lin, aggregated)] if self.is_gcn else [(conv.lin_l, aggregated), (conv.lin_r, h)]
            for linear, values in maps:
                linear.weight /= functional.linear(values, linear.weight).std()
            h = functional.relu(sum(linear(values) for linear, values in maps))

    def prepare(self, nodes: np.ndarray) -> Callable[[], torch.Tensor]:
        rows = self.adjacency[nodes]
        matrix, transposed = _tensor(rows), _tensor(rows.T.tocsr())

        def last(dense: torch.Tensor) -> torch.Tensor:
            return Product.apply(dense, matrix, transposed)

        return lambda: self._logits(nodes, last)

    def _logits(
        self, nodes: np.ndarray, last: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        *below, top = self.model.convs
        h = self.data.x
        for level, conv in enumerate(below):
            if self.is_gcn:
                if level == 0:
                    out = functional.linear(self.first, conv.lin.weight)
                else:
                    out = self._aggregated(conv.lin(h), self.whole)
                h = out + conv.bias
            else:
                if level == 0:
                    out = functional.linear(self.first, conv.lin_l.weight)
                else:
                    out = self._aggregated(functional.linear(h, conv.lin_l.weight), self.whole)
                h = out + conv.lin_l.bias + conv.lin_r(h)
            h = functional.dropout(functional.relu(h), DROPOUT, self.model.training)
        if self.is_gcn:
            return self._aggregated(top.lin(h), last, nodes) + top.bias
        sent = functional.linear(h, top.lin_l.weight)
        return self._aggregated(sent, last, nodes) + top.lin_l.bias + top.lin_r(h[nodes])

    def _aggregated(
        self,
        rows: torch.Tensor,
        product: Callable[[torch.Tensor], torch.Tensor],
        nodes: np.ndarray | slice = slice(None),
    ) -> torch.Tensor:
        """What `nodes` gather of the rows of all nodes."""
        sent = rows * self.source_scale
        gathered = product(sent)
        if self.is_gcn:
            gathered = gathered + sent[nodes]
        return gathered * self.target_scale[nodes]


class Edges:
    """In-edges of some nodes, sorted by target, and the same sorted by source."""

    def __init__(self, rows: scipy.sparse.csr_matrix) -> None:
        self.shape = rows.shape
        self.indptr, self.indices = torch.from_numpy(rows.indptr), torch.from_numpy(rows.indices)
        self.sources = self.indices.long()
        self.targets = torch.from_numpy(np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)))
        numbers = np.arange(rows.nnz, dtype=np.int32)
        back = scipy.sparse.csr_matrix((numbers, rows.indices, rows.indptr), rows.shape).T.tocsr()
        self.back = tuple(map(torch.from_numpy, (back.indptr, back.indices)))
        self.order = torch.from_numpy(back.data.astype(np.int64))

    def matrix(self, weights: torch.Tensor) -> torch.Tensor:
        """[targets, sources]"""
        return torch.sparse_csr_tensor(self.indptr, self.indices, weights, size=self.shape)

    def transposed(self, weights: torch.Tensor) -> torch.Tensor:
        """[sources, targets]"""
        return torch.sparse_csr_tensor(*self.back, weights[self.order], size=self.shape[::-1])


class WeightedSum(torch.autograd.Function):
    """What every target gathers of its sources' rows [sources, width], each edge with its own weight."""

    @staticmethod
    def forward(context, rows, weights, edges):
        context.edges = edges
        context.save_for_backward(rows, weights)
        return edges.matrix(weights) @ rows

    @staticmethod
    def backward(context, gradient):
        rows, weights = context.saved_tensors
        edges, gradient = context.edges, gradient.contiguous()
        places = edges.matrix(torch.zeros_like(weights))
        of_weights = torch.sparse.sampled_addmm(places, gradient, rows.T, beta=0.0).values()
        return edges.transposed(weights) @ gradient, of_weights, None


class WholeAttention(Trainer):
    """GAT: the weights of PyG's own model, a product with a sparse matrix for each head."""

    def __init__(self, layers: int, data: Data) -> None:
        super().__init__(f"gat{layers}", data)
        graph = data.graph
        ones = np.ones(len(graph.indices), np.float32)
        shape = (graph.nodes, graph.nodes)
        stored = scipy.sparse.csr_matrix((ones, graph.indices, graph.indptr), shape=shape)
        self.adjacency = (stored + scipy.sparse.eye(graph.nodes, dtype=np.float32)).tocsr()
        self.whole = Edges(self.adjacency)
        width, hidden = data.x.shape[1], HIDDEN["gat"]
        self.model = GAT(width, hidden, layers, data.classes, dropout=DROPOUT, heads=HEADS)
        self._spread()

    def parameters(self) -> list[dict[str, Any]]:
        named = list(self.model.named_parameters())
        return [
            {"params": [p for name, p in named if "att_" not in name], "lr": LEARNING_RATE},
            {"params": [p for name, p in named if "att_" in name], "lr": ATTENTION_LEARNING_RATE},
        ]

    @torch.no_grad()
    def _spread(self) -> None:
        """Scales the first weights so that every layer begins with values of variance 1, and its attention as a mean.

        Attention at random counts a few of hundreds of neighbours, who say too little.
        """
        h = self.data.x
        for conv in self.model.convs:
            nn.init.zeros_(conv.att_src)
            nn.init.zeros_(conv.att_dst)
            conv.lin.weight /= _attention(conv, h, slice(None), self.whole).std()
            h = functional.relu(_attention(conv, h, slice(None), self.whole))

    def prepare(self, nodes: np.ndarray) -> Callable[[], torch.Tensor]:
        edges = Edges(self.adjacency[nodes])
        return lambda: self._logits(nodes, edges)

    def _logits(self, nodes: np.ndarray, edges: Edges) -> torch.Tensor:
        *below, top = self.model.convs
        h = self.data.x
        for conv in below:
            h = functional.relu(_attention(conv, h, slice(None), self.whole))
            h = functional.dropout(h, DROPOUT, self.model.training)
        return _attention(top, h, nodes, edges)


def _attention(
    conv: GATConv, h: torch.Tensor, nodes: np.ndarray | slice, edges: Edges
) -> torch.Tensor:
    """PyG's GATConv for some nodes, without a message for every edge."""
    sent = conv.lin(h).view(-1, conv.heads, conv.out_channels)
    at_source, at_target = (sent * conv.att_src).sum(-1), (sent[nodes] * conv.att_dst).sum(-1)
    heads = []
    for head in range(conv.heads):
        logits = at_source[:, head].index_select(0, edges.sources)
        logits = logits + at_target[:, head].index_select(0, edges.targets)
        logits = functional.leaky_relu(logits, conv.negative_slope)
        weights = (logits - logits.detach().max()).exp()
        rows = torch.cat([sent[:, head], torch.ones(len(sent), 1)], 1)
        summed = WeightedSum.apply(rows, weights, edges)
        heads.append(summed[:, :-1] / summed[:, -1:])
    out = torch.cat(heads, 1) if conv.concat else torch.stack(heads).mean(0)
    return out + conv.bias


def make_trainer(kind: str, layers: int, data: Data) -> Trainer:
    if kind == "gat":
        return WholeAttention(layers, data)
    return WholeNeighbourhoods(kind, layers, data)


def _tensor(matrix: scipy.sparse.csr_matrix) -> torch.Tensor:
    parts = (matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data)
    return torch.sparse_csr_tensor(*map(torch.from_numpy, parts), size=matrix.shape)


if __name__ == "__main__":
    main()
