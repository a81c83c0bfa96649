"""Exports trained graph neural networks to Satisfice, and talks to its server.

Only numpy and safetensors are needed; PyTorch, PyTorch Geometric and DGL are imported by the
functions that export their models.
"""

from satisfice._dgl import export_dgl
from satisfice._errors import ExportError, ServerError
from satisfice._pyg import export_pyg
from satisfice.client import Applied, Client, Result
from satisfice.graph import export_graph, write_queries

__all__ = [
    "Applied",
    "Client",
    "ExportError",
    "Result",
    "ServerError",
    "export_dgl",
    "export_graph",
    "export_pyg",
    "write_queries",
]
