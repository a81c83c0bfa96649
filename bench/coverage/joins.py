"""How models join their levels, by skips, gates, branches, recurrence and hops.

Layers read rows, then edges.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as f

from measure import CLASSES

H = 12


def gated(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    gate = torch.sigmoid(net.gate(x))
    return net.out(gate * net.conv(x, edges) + (1 - gate) * net.lin(x))


def scalar_gate(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    h = net.enc(x)
    for conv, gate in zip(net.convs, net.gates):
        new = conv(h, edges).relu()
        weight = gate(torch.cat([h, new], dim=1)).sigmoid()
        h = weight * h + (1 - weight) * new
    return net.out(h)


def pre_norm(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    h = net.enc(x)
    for conv, norm in zip(net.convs, net.norms):
        h = h + conv(f.dropout(norm(h).relu(), 0.1, net.training), edges)
    return net.out(h.relu())


def dense_net(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    for conv in net.convs:
        x = torch.cat([x, conv(x, edges).relu()], dim=-1)
    return net.out(x)


def far_skip(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    one = net.a(x, edges).relu()
    two = net.b(one, edges).relu()
    three = net.c(two, edges).relu()
    return net.d(three + one, edges) + net.skip(one)


def branches(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    return net.out(torch.cat([net.a(x, edges).relu(), net.b(x, edges).tanh(), x], dim=1))


def deep_branches(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    left = net.c(net.a(x, edges).relu(), edges)
    right = net.d(net.b(x, edges).relu(), edges)
    return left * right.sigmoid()


def two_towers(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    graph = net.b(net.a(x, edges).relu(), edges)
    return torch.maximum(graph, net.mlp(x)) + 0.5


def level_attention(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    levels = [net.lin(x)]
    for conv in net.convs:
        levels.append(conv(levels[-1], edges).relu())
    stacked = torch.stack(levels, dim=1)
    shares = net.score(stacked).softmax(dim=1)
    return net.out((shares * stacked).sum(dim=1))


def dagnn(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.lin(x)
    hops = [x]
    for _ in range(3):
        x = net.step(x, edges)
        hops.append(x)
    stacked = torch.stack(hops, dim=1)
    scores = net.score(stacked).squeeze(-1).sigmoid().unsqueeze(1)
    return torch.matmul(scores, stacked).squeeze(1)


def gprgnn(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.b(f.relu(net.a(x)))
    total = net.gamma[0] * x
    for k in range(3):
        x = net.step(x, edges)
        total = total + net.gamma[k + 1] * x
    return total


def sign(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    hops = [x]
    for _ in range(2):
        hops.append(net.step(hops[-1], edges))
    made = [lin(hop).relu() for lin, hop in zip(net.lins, hops)]
    return net.out(torch.cat(made, dim=-1))


def h2gcn(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    levels = [net.enc(x).relu()]
    for _ in range(2):
        near = net.mean(levels[-1], edges)
        levels.append(torch.cat([near, net.mean(near, edges)], dim=1))
    return net.out(torch.cat(levels, dim=1))


def geniepath(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.lin1(x)
    h = torch.zeros(1, x.shape[0], H)
    c = torch.zeros(1, x.shape[0], H)
    for conv, lstm in zip(net.convs, net.lstms):
        x = torch.tanh(conv(x, edges))
        x, (h, c) = lstm(x[None, :], (h, c))
        x = x[0]
    return net.lin2(x)


def lstm_over_levels(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    levels = []
    for conv in net.convs:
        x = conv(x, edges).relu()
        levels.append(x)
    states, _ = net.lstm(torch.stack(levels, dim=1))
    return net.out(states[:, -1])


def gru_update(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    h = net.enc(x).relu()
    for _ in range(2):
        h = net.gru(net.conv(h, edges).relu(), h)
    return net.out(h)


def sliced(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    left, right = net.a(x, edges).chunk(2, dim=1)
    return net.b(left.tanh() * right.sigmoid(), edges) + x[:, :CLASSES]


def heads_by_hand(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.a(x, edges).view(-1, 3, 4)
    return net.b(x.relu().mean(dim=1), edges)


def squeeze_excite(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = net.a(x, edges)
    return net.b(x * net.up(net.down(x).relu()).sigmoid(), edges)


def initial_everywhere(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    h = x
    for conv in net.convs:
        h = conv(torch.cat([h, x], dim=1), edges).relu()
    return net.out(h)


def unet(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    one = net.a(x, edges).relu()
    two = net.b(one, edges).relu()
    up = net.c(two, edges).relu()
    return net.d(torch.cat([up, one], dim=1), edges)


def late_gcnii(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    h = first = net.a(x, edges).relu()
    for conv in net.convs:
        h = conv(h, first, edges).relu()
    return net.out(h)


def late_appnp(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    return net.p(net.a(x, edges).relu(), edges)


def maxout(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    return torch.stack([conv(x, edges) for conv in net.convs], dim=0).max(dim=0)[0]


def relu6(net: Any, x: Tensor, edges: Tensor) -> Tensor:
    x = f.relu6(net.a(x, edges) * 3)
    return net.b(x.clamp(0.2, 2.0), edges)
