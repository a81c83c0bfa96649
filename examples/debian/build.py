"""Makes the example from a Debian package index, and trains its models.

python build.py index Packages.xz --translation Translation-en.xz --out .
python build.py train --out .
"""

from __future__ import annotations

import argparse
import collections
import copy
import gzip
import lzma
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn
from torch.nn import functional

import bundle

FEATURES = 128
QUERY_SHARE = 0.25
VALIDATION_SHARE = 0.1
VIRTUAL_PROVIDERS_MAX = 5
NEEDS = ("Pre-Depends", "Depends", "Recommends", "Suggests", "Enhances")

# Rare sections, and what they count as.
MERGED_SECTIONS = {
    "cli-mono": "devel",
    "comm": "net",
    "database": "utils",
    "debug": "devel",
    "editors": "text",
    "education": "science",
    "electronics": "science",
    "embedded": "science",
    "gnome": "x11",
    "gnustep": "libs",
    "hamradio": "science",
    "httpd": "web",
    "interpreters": "devel",
    "introspection": "libs",
    "kde": "x11",
    "kernel": "admin",
    "localization": "text",
    "mail": "net",
    "math": "science",
    "metapackages": "misc",
    "news": "net",
    "oldlibs": "misc",
    "otherosfs": "utils",
    "shells": "utils",
    "tasks": "misc",
    "tex": "text",
    "vcs": "devel",
    "video": "graphics",
    "xfce": "x11",
    "zope": "python",
}

Stanza = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser("index", help="make graph and queries from a package index")
    index.add_argument("packages", type=Path, help="Packages, plain, .gz or .xz")
    index.add_argument(
        "--translation", type=Path, help="Translation-en, for packages without a description"
    )
    train = commands.add_parser("train", help="train and export the models")
    train.add_argument("--kinds", nargs="+", choices=list(bundle.KINDS), default=list(bundle.KINDS))
    train.add_argument("--epochs", type=int, default=250)
    for command in (index, train):
        command.add_argument("--out", type=Path, default=bundle.HERE)
    arguments = parser.parse_args()
    if arguments.command == "index":
        bundle.write_graphs(read_index(arguments.packages, arguments.translation), arguments.out)
        return
    for kind in arguments.kinds:
        train_model(kind, arguments.out, arguments.epochs)


def read_index(packages_path: Path, translation_path: Path | None) -> bundle.Packages:
    """Packages of an index with their features, labels and dependencies."""
    stanzas = {stanza["Package"]: stanza for stanza in read_stanzas(packages_path)}
    names = sorted(stanzas)
    ordered = [stanzas[name] for name in names]
    translations = {} if translation_path is None else read_translations(translation_path)
    sections = [merged_section(stanza.get("Section", "misc")) for stanza in ordered]
    class_names = [section for section, _ in collections.Counter(sections).most_common()]
    is_query = np.zeros(len(names), bool)
    is_query[np.random.default_rng(7).permutation(len(names))[: int(QUERY_SHARE * len(names))]] = (
        True
    )
    return bundle.Packages(
        names=names,
        x=text_features([description(stanza, translations) for stanza in ordered]),
        y=np.array([class_names.index(section) for section in sections]),
        class_names=class_names,
        needs=read_needs(names, ordered),
        is_query=is_query,
    )


def read_stanzas(path: Path) -> Iterator[Stanza]:
    """Paragraphs of a Debian control file."""
    openers: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".xz": lzma.open}
    stanza: Stanza = {}
    key = ""
    with openers.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
        for line in file:
            line = line.rstrip("\n")
            if not line:
                if stanza:
                    yield stanza
                stanza = {}
            elif line[0] in " \t":
                stanza[key] += "\n" + line.strip()
            else:
                key, _, value = line.partition(":")
                stanza[key] = value.strip()
    if stanza:
        yield stanza


def read_translations(path: Path) -> dict[str, str]:
    """Descriptions by their checksum."""
    return {s["Description-md5"]: s.get("Description-en", "") for s in read_stanzas(path)}


def description(stanza: Stanza, translations: dict[str, str]) -> str:
    """The one-line description; the package's name is no part of it."""
    text = stanza.get("Description") or translations.get(stanza.get("Description-md5", ""), "")
    return text.split("\n")[0]


def merged_section(section: str) -> str:
    """The section without its area, rare ones merged."""
    name = section.split("/")[-1]
    return MERGED_SECTIONS.get(name, name)


def read_needs(names: list[str], stanzas: list[Stanza]) -> np.ndarray:
    """[2, E]: package, package that it needs, by any relation, alternatives included."""
    number = {name: i for i, name in enumerate(names)}
    providers = collections.defaultdict(list)
    for i, stanza in enumerate(stanzas):
        for name in relation_names(stanza.get("Provides", "")):
            providers[name].append(i)

    def resolve(name: str) -> list[int]:
        if name in number:
            return [number[name]]
        found = providers.get(name, [])
        return found if len(found) <= VIRTUAL_PROVIDERS_MAX else []

    pairs = {
        (i, needed)
        for i, stanza in enumerate(stanzas)
        for field in NEEDS
        for name in relation_names(stanza.get(field, ""))
        for needed in resolve(name)
        if needed != i
    }
    return np.array(sorted(pairs), np.int64).reshape(-1, 2).T


def relation_names(field: str) -> list[str]:
    """Package names of a relation field, without versions and architectures."""
    names = [re.split(r"[\s(:\[]", item.strip())[0] for item in re.split(r"[,|]", field)]
    return [name for name in names if name]


def text_features(texts: list[str]) -> np.ndarray:
    """TF-IDF reduced to 128 dimensions, of unit mean square."""
    vectorizer = TfidfVectorizer(
        min_df=5,
        max_df=0.3,
        sublinear_tf=True,
        max_features=30000,
        stop_words="english",
        token_pattern=r"(?u)\b[a-zA-Z][a-zA-Z0-9+]+\b",
    )
    reduced = TruncatedSVD(FEATURES, random_state=0, n_iter=4).fit_transform(
        vectorizer.fit_transform(texts)
    )
    return (reduced / np.sqrt((reduced**2).mean())).astype(np.float32)


def train_model(kind: str, out: Path, epochs: int) -> None:
    """Trains on the stored graph alone, keeps the best epoch of the validation nodes, exports."""
    torch.manual_seed(0)
    data = bundle.load_graph(out)
    nodes = data.num_nodes
    held = torch.from_numpy(
        np.random.default_rng(11).permutation(nodes) < int(VALIDATION_SHARE * nodes)
    )
    model = bundle.make_model(kind, data.num_features, int(data.y.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-5)
    best, best_state, worse = 0.0, model.state_dict(), 0
    for epoch in range(1, epochs + 1):
        train_epoch(model, optimizer, data, ~held)
        if epoch % 5 and epoch != epochs:
            continue
        accuracy = validate(model, data, held)
        if accuracy > best:
            best, best_state, worse = accuracy, copy.deepcopy(model.state_dict()), 0
        else:
            worse += 1
        if worse == 6:
            break
    model.load_state_dict(best_state)
    bundle.export_model(kind, model, out)
    print(f"{kind}: {100 * best:.2f} % on validation nodes after {epoch} epochs")


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: bundle.Data, mask: torch.Tensor
) -> None:
    model.train()
    optimizer.zero_grad()
    logits = model(functional.dropout(data.x, bundle.DROPOUT), data.edge_index)
    functional.cross_entropy(logits[mask], data.y[mask]).backward()
    optimizer.step()


@torch.no_grad()
def validate(model: nn.Module, data: bundle.Data, mask: torch.Tensor) -> float:
    """Share of the masked nodes whose class is right."""
    predicted = model.eval()(data.x, data.edge_index)[mask].argmax(1)
    return float((predicted == data.y[mask]).float().mean())


if __name__ == "__main__":
    main()
