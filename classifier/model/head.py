"""The heads: from features to P(needs_frontier) and the score that ranks queries."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.calibrator import Calibrator
from querytier.classifier.model.nets import NETS, Net
from querytier.classifier.model.onnx_nodes import Nodes
from querytier.data.arrays import Floats

__all__ = ["Blocks", "Calibrated", "Heads", "Member", "gain_of", "side_by_side"]

# Features by name of their block: float32 of shape (n, d), dense or sparse.
Blocks = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Member:
    """One learner: the features that it reads, and its outputs.

    Attributes
    ----------
    blocks : tuple of str
        Names of the blocks of features, whose columns are joined.
    need : Net
        One output: the log-odds of needs_frontier.
    gain : Net or None
        Three outputs, which `gain_of` reads as log-odds of cheap better, tie and frontier better;
        or one, the expected gain.
    """

    blocks: tuple[str, ...]
    need: Net
    gain: Net | None = None

    def log_odds(self, blocks: Blocks) -> Floats:
        """Return the log-odds of needs_frontier, shape (n,)."""
        return self.need.outputs(side_by_side(blocks, self.blocks))[:, 0]

    def gains(self, blocks: Blocks) -> Floats:
        """Return the expected gains, shape (n,)."""
        assert self.gain is not None
        return gain_of(self.gain.outputs(side_by_side(blocks, self.blocks)))


@dataclass(frozen=True, eq=False)
class Heads:
    """The mean of several learners, with one calibrator.

    Attributes
    ----------
    members : tuple of Member
    calibrator : Calibrator
        Maps the members' mean log-odds to those of the calibrated probability.
    ranks_by : {"p_frontier", "gain"}
        The score that ranks queries and is compared with the threshold. Ranking by gain raised APGR
        on MMLU from 0.635 to 0.662; `p_frontier` stays the probability that certificates use.
    """

    members: tuple[Member, ...]
    ranks_by: Literal["p_frontier", "gain"] = "p_frontier"
    calibrator: Calibrator = field(default_factory=Calibrator.identity)

    @property
    def blocks(self) -> set[str]:
        """The names of all blocks that members read."""
        return {name for member in self.members for name in member.blocks}

    @property
    def smooth(self) -> bool:
        """Whether a small change in the features is a small change in the outputs."""
        return all(member.need.kind != "trees" for member in self.members)

    def log_odds(self, blocks: Blocks) -> Floats:
        """Return the log-odds of needs_frontier before calibration, shape (n,)."""
        return np.asarray(np.mean([one.log_odds(blocks) for one in self.members], axis=0))

    def p_frontier(self, blocks: Blocks) -> Floats:
        """Return calibrated probabilities in [0, 1], shape (n,)."""
        return self.calibrator.probabilities(self.log_odds(blocks))

    def decision_scores(self, blocks: Blocks) -> Floats:
        """Return the scores that are compared with the threshold, shape (n,)."""
        if self.ranks_by == "p_frontier":
            return self.p_frontier(blocks)
        return np.asarray(np.mean([one.gains(blocks) for one in self.members], axis=0))

    def calibrated(self, calibrator: Calibrator) -> "Heads":
        """Return the heads with another calibrator."""
        return replace(self, calibrator=calibrator)

    def add_to(self, nodes: Nodes, names: Mapping[str, str]) -> dict[str, str]:
        """Add the heads to a graph.

        Parameters
        ----------
        nodes : Nodes
        names : mapping of str to str
            Name of each block in the graph.

        Returns
        -------
        dict
            The names of `p_frontier` and, if the gain ranks queries, of `gain` in the graph.
        """
        # By hand: skl2onnx 1.20 exports isotonic calibration up to 0.025 off, binary LDA 0.15, and
        # fails on histogram boosting and temperature scaling.
        needs, gains = [], []
        for member in self.members:
            columns = [names[block] for block in member.blocks]
            read = nodes.add("Concat", columns, axis=1) if len(columns) > 1 else columns[0]
            needs.append(member.need.add_to(nodes, read))
            if self.ranks_by == "gain" and member.gain is not None:
                gains.append(_gain(nodes, member.gain, read))
        logits = self.calibrator.add_to(nodes, _mean(nodes, needs))
        outputs = {"p_frontier": _flat(nodes, nodes.add("Sigmoid", [logits]))}
        if gains:
            outputs["gain"] = _flat(nodes, _mean(nodes, gains))
        return outputs

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the heads in two parts, for JSON and for `numpy.savez`."""
        members: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        for place, member in enumerate(self.members):
            nets = {"need": member.need} | ({"gain": member.gain} if member.gain else {})
            members.append(
                {"blocks": member.blocks, **{name: net.kind for name, net in nets.items()}}
            )
            for name, net in nets.items():
                arrays |= {f"{place}.{name}.{key}": one for key, one in vars(net).items()}
        calibrator = asdict(self.calibrator)
        return {"members": members, "ranks_by": self.ranks_by, "calibrator": calibrator}, arrays

    @classmethod
    def from_state(cls, content: Mapping[str, Any], arrays: Mapping[str, Any]) -> "Heads":
        """Return the heads from their `state`."""

        def net(place: int, name: str) -> Net | None:
            kind = content["members"][place].get(name)
            if kind is None:
                return None
            prefix = f"{place}.{name}."
            parts = {key[len(prefix) :]: arrays[key] for key in arrays if key.startswith(prefix)}
            return NETS[kind](**parts)

        members = []
        for place, member in enumerate(content["members"]):
            need = net(place, "need")
            assert need is not None
            members.append(Member(tuple(member["blocks"]), need, net(place, "gain")))
        return cls(tuple(members), content["ranks_by"], Calibrator(**content["calibrator"]))


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Heads with their calibrator, and the threshold that belongs to them.

    Attributes
    ----------
    heads : Heads
    threshold : float
    """

    heads: Heads
    threshold: float


def gain_of(outputs: Floats) -> Floats:
    """Return P(frontier better) - P(cheap better) from log-odds, or a single output unchanged.

    Parameters
    ----------
    outputs : ndarray of float64, shape (n, 3) or (n, 1)

    Examples
    --------
    >>> gain_of(np.zeros((1, 3))).tolist(), gain_of(np.array([[0.25]])).tolist()
    ([0.0], [0.25])
    """
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    # Without the largest value subtracted, exp overflows for outputs above 709.
    parts = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares = parts / parts.sum(axis=1, keepdims=True)
    return np.asarray(shares[:, 2] - shares[:, 0])


def side_by_side(blocks: Blocks, names: Sequence[str]) -> Any:
    """Return the columns of several blocks as one matrix."""
    if len(names) == 1:  # a sparse block stays sparse
        return blocks[names[0]]
    return np.hstack([blocks[name] for name in names])


def _mean(nodes: Nodes, columns: Sequence[str]) -> str:
    return columns[0] if len(columns) == 1 else nodes.add("Mean", columns)


def _gain(nodes: Nodes, net: Net, features: str) -> str:
    outputs = net.add_to(nodes, features)
    if net.kind == "trees":
        return outputs
    shares = nodes.add("Softmax", [outputs], axis=1)
    return nodes.gemm(shares, np.array([[-1.0, 0.0, 1.0]]), np.zeros(1))


def _flat(nodes: Nodes, column: str) -> str:
    return nodes.add("Reshape", [column, nodes.constant(np.array([-1]))])
