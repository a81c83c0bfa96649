"""Measures a peer on batches of held-out queries and prints what `satisfice bench graph` reads."""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from serving import (
    Batch,
    ComputationGraph,
    Layer,
    Queries,
    StoredGraph,
    read_sidecar,
    read_weights,
)

FANOUTS = {2: [[10, 25], [25, 10]], 3: [[5, 10, 15]]}

ACTIVATIONS = {"relu": torch.relu_, "elu": nn.functional.elu_}

Run = Callable[[ComputationGraph], np.ndarray]
"""Outputs [targets of the last layer, classes] of a model on a computation graph."""


@dataclass
class Framework:
    """What the peers have of their own."""

    name: str
    make_conv: Callable[[dict[str, Any], dict[str, torch.Tensor]], nn.Module]
    """A layer of the sidecar with its weights, whose names have lost the layer's prefix."""
    apply: Callable[[nn.Module, Layer, torch.Tensor], torch.Tensor]
    """The layer on a part of a computation graph and its sources' rows [sources, width]."""


def make(framework: Framework, layers: list[dict[str, Any]], weights: dict[str, np.ndarray]) -> Run:
    """A model."""

    def of(layer: dict[str, Any]) -> nn.Module:
        prefix = layer["tensors"] + "."
        own = {
            name.removeprefix(prefix): torch.from_numpy(value)
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        return framework.make_conv(layer, own).eval()

    stages = [(of(layer), [op["op"] for op in layer.get("after", [])]) for layer in layers]
    unknown = {name for _, after in stages for name in after} - ACTIVATIONS.keys()
    if unknown:
        raise SystemExit(f"peers do not have {sorted(unknown)} between layers")

    @torch.inference_mode()
    def run(graph: ComputationGraph) -> np.ndarray:
        h = graph.x
        for (conv, after), layer in zip(stages, graph.layers):
            h = framework.apply(conv, layer, h)
            for name in after:
                h = ACTIVATIONS[name](h)
        return h.numpy()

    return run


def arguments(description: str) -> argparse.Namespace:
    """The command line that all peers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True, help="a model directory")
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--batches", type=lambda text: [int(b) for b in text.split(",")], required=True)
    parser.add_argument("--limit", type=int, required=True, help="queries at each batch size")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="no new batch of a row begins after this time; three are answered at least",
    )
    parser.add_argument(
        "--ways", nargs="+", choices=["sampled", "full"], default=["sampled", "full"]
    )
    return parser.parse_args()


def measure(framework: Framework, options: argparse.Namespace) -> None:
    """Prints a line when a row begins and the row when it is measured.

    A batch size after the other, each with all ways to build a computation graph. What was printed
    counts, whatever happens afterwards.
    """
    # A framework that brings the process down leaves its place on standard error.
    faulthandler.enable()
    torch.set_num_threads(options.threads)
    name = framework.name
    sidecar, store = read_sidecar(options.model)
    layers = sidecar["layers"]
    run = make(framework, layers, read_weights(options.model))
    graph, queries = StoredGraph(store), Queries(options.queries)
    ways: list[tuple[str, Callable[[Batch], ComputationGraph]]] = []
    for fanouts in FANOUTS.get(len(layers), []) if "sampled" in options.ways else []:
        rng = np.random.default_rng(0)
        ways.append(
            (
                f"{name} sampled {fanouts}",
                lambda batch, fanouts=fanouts, rng=rng: graph.sampled(batch, layers, fanouts, rng),
            )
        )
    if "full" in options.ways:
        ways.append((f"{name} full", lambda batch: graph.full(batch, layers)))
    for size in options.batches:
        for peer, build in ways:
            print(f"{peer}, batches of {size}", file=sys.stderr, flush=True)
            _print({"begins": peer, "batch": size})
            _print({"peer": peer} | _row(graph, queries, build, run, size, options))


def _print(line: dict[str, Any]) -> None:
    json.dump(line, sys.stdout)
    print(flush=True)


def _row(
    graph: StoredGraph,
    queries: Queries,
    build: Callable[[Batch], ComputationGraph],
    run: Run,
    size: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Every batch that is begun counts; the first is answered once more beforehand, to warm up."""
    latencies, classes, labels = [], [], []
    begun = None
    for start, stop in _ranges(min(len(queries), options.limit), size):
        if begun is None:
            run(build(Batch(graph, queries, start, stop)))
            begun = time.perf_counter()
        clock = time.perf_counter()
        batch = Batch(graph, queries, start, stop)
        attached = time.perf_counter()
        computation = build(batch)
        built = time.perf_counter()
        outputs = run(computation)
        ended = time.perf_counter()
        latencies.append((ended - clock, attached - clock, built - attached, ended - built))
        classes.append(outputs.argmax(1))
        labels.append(batch.labels)
        if ended - begun > options.seconds and len(latencies) >= 3:
            break
    predicted, wanted = np.concatenate(classes), np.concatenate(labels)
    times = 1e3 * np.asarray(latencies)
    ordered = np.sort(times[:, 0])

    def percentile(share: float) -> float:
        return float(ordered[max(int(np.ceil(share * len(ordered))), 1) - 1])

    return {
        "batch": size,
        "batches": len(latencies),
        "queries": len(predicted),
        "accuracy": float((predicted == wanted).mean()),
        "p50_ms": percentile(0.5),
        "p90_ms": percentile(0.9),
        "p99_ms": percentile(0.99),
        "max_ms": float(ordered[-1]),
        "attach_ms": float(times[:, 1].mean()),
        "build_ms": float(times[:, 2].mean()),
        "model_ms": float(times[:, 3].mean()),
        "classes": predicted.tolist(),
    }


def _ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(count, start + size)
