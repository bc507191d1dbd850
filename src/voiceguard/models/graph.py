"""Graph attention back end of AASIST.

Jung et al., "AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention
Networks", ICASSP 2022 (arXiv 2110.01200). A map of channels over frequency and time becomes two
fully connected graphs, one of frequencies and one of instants; attention runs inside each, then in
two parallel branches over both together with a master node that sums up the utterance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from voiceguard.errors import ParameterError
from voiceguard.features._base import FrontEnd

RankBy = Literal["gate", "logit"]

SPOOF_INDEX = 0
BONAFIDE_INDEX = 1


class ModelOutput(NamedTuple):
    """What a model gives for a batch.

    Parameters
    ----------
    logits : Tensor [shape=(batch, 2)]
        Index 0 is spoof, index 1 bona fide.
    embedding : Tensor [shape=(batch, d)]
        The utterance vector that the logits are a linear map of.
    """

    logits: Tensor
    embedding: Tensor


@dataclass(frozen=True)
class GraphConfig:
    """Sizes of the graph back end.

    Parameters
    ----------
    gat_dims : tuple of int
        Width of the nodes after the single-type layers and after the heterogeneous layers.
    pool_ratios : tuple of float
        Share of nodes that a pool keeps, in (0, 1]: spectral, temporal, heterogeneous.
    temperatures : tuple of float
        Divisor of the attention logits, > 0: spectral, temporal, heterogeneous.
    """

    gat_dims: tuple[int, int] = (64, 32)
    pool_ratios: tuple[float, float, float] = (0.5, 0.7, 0.5)
    temperatures: tuple[float, float, float] = (2.0, 2.0, 100.0)

    def __post_init__(self) -> None:
        _require_tuple("gat_dims", self.gat_dims, 2, lambda v: isinstance(v, int) and v >= 1)
        _require_tuple("pool_ratios", self.pool_ratios, 3, lambda v: 0 < v <= 1)
        _require_tuple("temperatures", self.temperatures, 3, lambda v: v > 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> GraphConfig:
        """Read back :meth:`to_dict`.

        Raises
        ------
        ParameterError
            If a field is unknown or out of range.
        """
        unknown = set(plain) - {f.name for f in fields(cls)}
        if unknown:
            raise ParameterError(f"GraphConfig has no field {sorted(unknown)}.")
        return cls(**{name: tuple(value) for name, value in plain.items()})


def _require_tuple(name: str, values: Any, length: int, valid: Any) -> None:
    if len(values) != length or not all(valid(v) for v in values):
        raise ParameterError(
            f"The {name!r} parameter of GraphConfig must hold {length} values in range. "
            f"Got {values!r} instead."
        )


def _attention_vector(width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(width, 1)))


def _pairwise(nodes: Tensor) -> Tensor:
    """Elementwise products of all pairs: (batch, n, d) to (batch, n, n, d)."""
    return nodes.unsqueeze(2) * nodes.unsqueeze(1)


def _normalise(bn: nn.BatchNorm1d, nodes: Tensor) -> Tensor:
    """Batch norm over every node of every graph alike."""
    flat: Tensor = bn(nodes.reshape(-1, nodes.shape[-1]))
    return flat.view(-1, *nodes.shape[1:])


class GraphAttention(nn.Module):
    """Graph attention over the nodes of one type.

    A = softmax_j(w' tanh(W (x_i * x_j) + b) / temperature), then
    SELU(BN(W1 (A x) + b1 + W2 x + b2)). In training the input is dropped out at 0.2.

    Parameters
    ----------
    in_dim, out_dim : int
        Width of a node before and after.
    temperature : float
        Divisor of the attention logits.
    """

    def __init__(self, in_dim: int, out_dim: int, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_weight = _attention_vector(out_dim)
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)
        self.input_drop = nn.Dropout(p=0.2)
        self.act = nn.SELU()

    def forward(self, nodes: Tensor) -> Tensor:
        """Nodes (batch, n, in_dim) to (batch, n, out_dim)."""
        nodes = self.input_drop(nodes)
        logits = torch.matmul(torch.tanh(self.att_proj(_pairwise(nodes))), self.att_weight)
        attention = torch.softmax(logits.squeeze(-1) / self.temperature, dim=-1)
        mixed = self.proj_with_att(torch.matmul(attention, nodes)) + self.proj_without_att(nodes)
        out: Tensor = self.act(_normalise(self.bn, mixed))
        return out


class HeterogeneousAttention(nn.Module):
    """Heterogeneous stacking graph attention: two node types and a master node.

    Each pair of types has its own attention vector (the two mixed pairs share one); the master
    attends to all nodes and takes no part in their exchange.

    Parameters
    ----------
    in_dim, out_dim : int
        Width of a node before and after.
    temperature : float
        Divisor of the attention logits.
    """

    def __init__(self, in_dim: int, out_dim: int, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.proj_type1 = nn.Linear(in_dim, in_dim)
        self.proj_type2 = nn.Linear(in_dim, in_dim)
        self.att_proj = nn.Linear(in_dim, out_dim)
        self.att_projM = nn.Linear(in_dim, out_dim)
        self.att_weight11 = _attention_vector(out_dim)
        self.att_weight22 = _attention_vector(out_dim)
        self.att_weight12 = _attention_vector(out_dim)
        self.att_weightM = _attention_vector(out_dim)
        self.proj_with_att = nn.Linear(in_dim, out_dim)
        self.proj_without_att = nn.Linear(in_dim, out_dim)
        self.proj_with_attM = nn.Linear(in_dim, out_dim)
        self.proj_without_attM = nn.Linear(in_dim, out_dim)
        self.bn = nn.BatchNorm1d(out_dim)
        self.input_drop = nn.Dropout(p=0.2)
        self.act = nn.SELU()

    def forward(
        self, type1: Tensor, type2: Tensor, master: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Exchange between the nodes.

        Parameters
        ----------
        type1, type2 : Tensor [shape=(batch, n1, in_dim)], [shape=(batch, n2, in_dim)]
            Nodes of the two types.
        master : Tensor [shape=(batch or 1, 1, in_dim)]
            The master node.

        Returns
        -------
        tuple of Tensor
            The same three, `out_dim` wide.
        """
        count1, count2 = type1.shape[1], type2.shape[1]
        nodes = torch.cat([self.proj_type1(type1), self.proj_type2(type2)], dim=1)
        nodes = self.input_drop(nodes)
        new_master = self._master(nodes, master)
        attention = self._attention(nodes, count1)
        mixed = self.proj_with_att(torch.matmul(attention, nodes)) + self.proj_without_att(nodes)
        mixed = self.act(_normalise(self.bn, mixed))
        new1, new2 = torch.split(mixed, [count1, count2], dim=1)
        return new1, new2, new_master

    def _attention(self, nodes: Tensor, count1: int) -> Tensor:
        """Row-stochastic attention (batch, n, n); each block of types has its own vector."""
        hidden = torch.tanh(self.att_proj(_pairwise(nodes)))
        upper, lower = hidden[:, :count1], hidden[:, count1:]
        rows1 = torch.cat(
            [upper[:, :, :count1] @ self.att_weight11, upper[:, :, count1:] @ self.att_weight12],
            dim=2,
        )
        rows2 = torch.cat(
            [lower[:, :, :count1] @ self.att_weight12, lower[:, :, count1:] @ self.att_weight22],
            dim=2,
        )
        logits = torch.cat([rows1, rows2], dim=1).squeeze(-1)
        return torch.softmax(logits / self.temperature, dim=-1)

    def _master(self, nodes: Tensor, master: Tensor) -> Tensor:
        hidden = torch.tanh(self.att_projM(nodes * master))
        logits = torch.matmul(hidden, self.att_weightM) / self.temperature
        attention = torch.softmax(logits, dim=1).transpose(1, 2)
        exchanged = self.proj_with_attM(torch.matmul(attention, nodes))
        out: Tensor = exchanged + self.proj_without_attM(master)
        return out


class GraphPool(nn.Module):
    """Keep the nodes that a learned gate ranks highest, in rank order.

    The gate is a sigmoid and can round to the same number, often 1, for several nodes. Published
    models rank by it all the same, and which of the tied nodes stay is then up to the runtime
    (torch and ONNX Runtime differ); a network of one's own ranks by the logit behind it.

    Parameters
    ----------
    dim : int
        Width of a node.
    ratio : float
        Share that is kept: int(n * ratio) nodes, at least one.
    rank_by : {"gate", "logit"}
        What orders the nodes.
    dropout : float
        Dropout on the input of the scorer.
    """

    def __init__(
        self, dim: int, *, ratio: float, rank_by: RankBy = "logit", dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.ratio = ratio
        self.rank_by = rank_by
        self.drop = nn.Dropout(p=dropout)
        self.proj = nn.Linear(dim, 1)

    def forward(self, nodes: Tensor) -> Tensor:
        """Nodes (batch, n, dim) to (batch, kept, dim), each scaled by its gate in (0, 1)."""
        keep = max(int(nodes.shape[1] * self.ratio), 1)
        logits = self.proj(self.drop(nodes))
        gates = torch.sigmoid(logits)
        order = torch.topk(gates if self.rank_by == "gate" else logits, keep, dim=1).indices
        return torch.gather(nodes * gates, 1, order.expand(-1, -1, nodes.shape[2]))


class GraphBackEnd(nn.Module):
    """From a feature map to an embedding and two logits; the base of the AASIST family.

    A subclass sets :attr:`front_end` and writes ``forward`` from (batch, n) to a
    :class:`ModelOutput`. Attributes lie flat so that published state dicts load by name.

    Parameters
    ----------
    channels : int
        Channels of the map.
    frequency_nodes : int
        Height of the map, fixed: each frequency has a learned position.
    config : GraphConfig
        Sizes of the graph layers.
    rank_by : {"gate", "logit"}
        What the pools order nodes by, see :class:`GraphPool`.
    """

    front_end: FrontEnd

    def __init__(
        self,
        *,
        channels: int,
        frequency_nodes: int,
        config: GraphConfig,
        rank_by: RankBy = "logit",
    ) -> None:
        super().__init__()
        inner, outer = config.gat_dims
        ratio_s, ratio_t, ratio_h = config.pool_ratios
        temperature_s, temperature_t, temperature_h = config.temperatures

        self.pos_S = nn.Parameter(torch.randn(1, frequency_nodes, channels))
        self.master1 = nn.Parameter(torch.randn(1, 1, inner))
        self.master2 = nn.Parameter(torch.randn(1, 1, inner))
        self.GAT_layer_S = GraphAttention(channels, inner, temperature=temperature_s)
        self.GAT_layer_T = GraphAttention(channels, inner, temperature=temperature_t)
        for branch in ("1", "2"):
            first = HeterogeneousAttention(inner, outer, temperature=temperature_h)
            second = HeterogeneousAttention(outer, outer, temperature=temperature_h)
            self.add_module(f"HtrgGAT_layer_ST{branch}1", first)
            self.add_module(f"HtrgGAT_layer_ST{branch}2", second)
        self.pool_S = GraphPool(inner, ratio=ratio_s, rank_by=rank_by)
        self.pool_T = GraphPool(inner, ratio=ratio_t, rank_by=rank_by)
        for name in ("pool_hS1", "pool_hT1", "pool_hS2", "pool_hT2"):
            self.add_module(name, GraphPool(outer, ratio=ratio_h, rank_by=rank_by))
        self.drop_way = nn.Dropout(p=0.2)
        self.drop = nn.Dropout(p=0.5)
        self.out_layer = nn.Linear(5 * outer, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        width: int = self.out_layer.in_features
        return width

    def score(self, output: ModelOutput) -> Tensor:
        """Log-odds of bona fide as trained, logit 1 - logit 0 [shape=(batch,)]."""
        return output.logits[:, BONAFIDE_INDEX] - output.logits[:, SPOOF_INDEX]

    def back_end(self, feature_map: Tensor) -> ModelOutput:
        """Run the graphs.

        Parameters
        ----------
        feature_map : Tensor [shape=(batch, channels, frequency_nodes, time)]
            Any number of instants >= 1.

        Returns
        -------
        ModelOutput
        """
        embedding = self.read_out(feature_map)
        return ModelOutput(self.out_layer(self.drop(embedding)), embedding)

    def read_out(self, feature_map: Tensor) -> Tensor:
        """Run the graphs without the last layer: (batch, c, f, t) to (batch, 5 * gat_dims[1])."""
        size = feature_map.abs()
        spectral = size.amax(dim=3).transpose(1, 2) + self.pos_S
        temporal = size.amax(dim=2).transpose(1, 2)
        return self.join_graphs(spectral, temporal)

    def join_graphs(self, spectral: Tensor, temporal: Tensor) -> Tensor:
        """Run the graphs on their first nodes.

        Parameters
        ----------
        spectral : Tensor [shape=(batch, frequency_nodes, channels)]
            One node a frequency, its position added.
        temporal : Tensor [shape=(batch, time, channels)]
            One node an instant.

        Returns
        -------
        Tensor [shape=(batch, 5 * gat_dims[1])]
        """
        spectral = self.pool_S(self.GAT_layer_S(spectral))
        temporal = self.pool_T(self.GAT_layer_T(temporal))
        first = self._branch("1", temporal, spectral)
        second = self._branch("2", temporal, spectral)
        return _read_out(*(torch.maximum(a, b) for a, b in zip(first, second, strict=True)))

    def _branch(self, name: str, temporal: Tensor, spectral: Tensor) -> tuple[Tensor, ...]:
        """One of the two parallel branches: attention, pools, residual attention."""
        layer1 = getattr(self, f"HtrgGAT_layer_ST{name}1")
        layer2 = getattr(self, f"HtrgGAT_layer_ST{name}2")
        temporal, spectral, master = layer1(temporal, spectral, getattr(self, f"master{name}"))
        spectral = getattr(self, f"pool_hS{name}")(spectral)
        temporal = getattr(self, f"pool_hT{name}")(temporal)
        more_temporal, more_spectral, more_master = layer2(temporal, spectral, master)
        return (
            self.drop_way(temporal + more_temporal),
            self.drop_way(spectral + more_spectral),
            self.drop_way(master + more_master),
        )


def _read_out(temporal: Tensor, spectral: Tensor, master: Tensor) -> Tensor:
    """Largest magnitude and mean of both node types, and the master: (batch, 5 d)."""
    parts = [
        temporal.abs().amax(dim=1),
        temporal.mean(dim=1),
        spectral.abs().amax(dim=1),
        spectral.mean(dim=1),
        master.squeeze(1),
    ]
    return torch.cat(parts, dim=1)
