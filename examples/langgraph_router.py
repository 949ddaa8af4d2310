r"""A whole routing service as a LangGraph graph; the models are behind the OpenAI protocol.

::

    START -> classify -> retrieve (optional) -> cheap | frontier -> record -> END
                                                                       \-> person -> END

Offline, with stub models::

    python examples/stub_models.py &
    CHEAP_API_KEY=sk-stub FRONTIER_API_KEY=sk-stub \
      python examples/langgraph_router.py "Where is my order?" "Prove that the bound is tight."

If the cheap model does not answer, the frontier model does. Drafts with a confidence below the gate
wait for a person (`interrupt`), as do queries that no model answers. If the documents cannot be
read, the model answers without them.
"""

import argparse
import json
import operator
import re
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypedDict

from chat_endpoint import Answer, Endpoint, UnreachableError
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from querytier.serve import Router
from querytier.serve.log.decision_log import DecisionLog

NO_ANSWER = Answer(text="", confidence=0.0, tokens_in=0, tokens_out=0)
SHARED_WORDS = 2  # a passage with fewer words in common does not match the query
STEPS = ("classify", "retrieve", "call", "gate")


class State(TypedDict, total=False):
    """The fields that the nodes add to a query."""

    query: str
    id: str
    decision: dict[str, Any]
    passage: str
    answered_by: str
    draft: dict[str, Any]
    cost: float
    reply: str
    steps: Annotated[list[tuple[str, bool]], operator.add]  # name of a step, and whether it worked


@dataclass(frozen=True)
class Service:
    """The nodes of the graph.

    Attributes
    ----------
    router : Router
    endpoints : mapping
        One for each of the tiers `cheap` and `frontier`.
    documents : Path or None
        Passages, one per line; the file is read for each query, so that it can be replaced.
    gate : float
        A draft with a lower confidence waits for a person; in [0, 1].
    log : Path
    decisions : DecisionLog or None
        Receives each decision at once, and the cost of the answer later; `prepare` reads it
        without a column map.
    """

    router: Router
    endpoints: Mapping[str, Endpoint]
    documents: Path | None
    gate: float
    log: Path
    decisions: DecisionLog | None = None

    def graph(self) -> Any:
        """Return the compiled graph, which keeps the drafts that wait for a person."""
        graph = StateGraph(State)
        for node in (self.classify, self.retrieve, self.cheap, self.frontier, self.record):
            graph.add_node(node.__name__, node)
        graph.add_node("person", self.person)
        graph.add_edge(START, "classify")
        graph.add_conditional_edges("classify", self.after_classify)
        graph.add_conditional_edges("retrieve", self.tier)
        graph.add_edge("cheap", "record")
        graph.add_edge("frontier", "record")
        graph.add_conditional_edges("record", self.after_record)
        graph.add_edge("person", END)
        return graph.compile(checkpointer=InMemorySaver())

    def classify(self, state: State) -> State:
        """Decide the tier; never raises: the router falls back to the frontier tier."""
        decided, decision_id = self.router.decide(state["query"]), uuid.uuid4().hex
        if self.decisions is not None:
            self.decisions.append(decided, state["query"], id=decision_id)
        decision = decided.to_dict()
        answered = not decision["reason"].startswith("fallback")
        return {"id": decision_id, "decision": decision, "steps": [("classify", answered)]}

    def after_classify(self, state: State) -> str:
        """Retrieve only if there are documents."""
        return "retrieve" if self.documents else self.tier(state)

    def tier(self, state: State) -> str:
        """Return the decided tier, which is also the name of its node."""
        return str(state["decision"]["tier"])

    def retrieve(self, state: State) -> State:
        """Find the passage that answers the query, if there is one."""
        try:
            passages = self.documents.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            print(f"the documents cannot be read: {error}")
            return {"passage": "", "steps": [("retrieve", False)]}
        return {"passage": _best_of(passages, state["query"]), "steps": [("retrieve", True)]}

    def cheap(self, state: State) -> State:
        """Ask the cheap model, then the frontier model if that fails."""
        return self._first_answer(state, ["cheap", "frontier"])

    def frontier(self, state: State) -> State:
        """Ask the frontier model."""
        return self._first_answer(state, ["frontier"])

    def record(self, state: State) -> State:
        """Write decision, cost and feedback as a log line that training can read."""
        decision, draft = state["decision"], state["draft"]
        below = draft["confidence"] < self.gate
        as_decided = decision["tier"] == state["answered_by"]
        line = {
            "id": state["id"],
            "time": datetime.now(UTC).isoformat(),
            "query": state["query"],
            "tier": state["answered_by"],
            "feedback": "human_takeover" if below else None,
            "cost": state["cost"],
            "policy": decision["model_version"],
            "propensity": decision.get("propensity", 1.0) if as_decided else None,
            "decided": decision,
            "confidence": draft["confidence"],
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self.decisions is not None and as_decided:
            outcome = {"feedback": line["feedback"], "cost": state["cost"]}
            self.decisions.append_outcome(state["id"], **outcome)
        return {"reply": draft["text"], "steps": [("gate", not below)]}

    def after_record(self, state: State) -> str:
        """Send a draft that the model is unsure of to a person."""
        return END if state["steps"][-1] == ("gate", True) else "person"

    def person(self, state: State) -> State:
        """Wait for a person's answer: `graph.invoke(Command(resume=...), config)`."""
        return {"reply": interrupt({"query": state["query"], "draft": state["draft"]["text"]})}

    def _first_answer(self, state: State, tiers: Sequence[str]) -> State:
        for tier in tiers:
            try:
                answer = self.endpoints[tier].ask(_messages(state))
            except UnreachableError as error:
                print(f"no answer from {error}")
                continue
            first = tier == tiers[0]
            return self._drafted(tier, answer, self.endpoints[tier].cost(answer), held=first)
        return self._drafted(tiers[-1], NO_ANSWER, 0.0, held=False)

    @staticmethod
    def _drafted(tier: str, answer: Answer, cost: float, *, held: bool) -> State:
        draft = asdict(answer)
        return {"answered_by": tier, "draft": draft, "cost": cost, "steps": [("call", held)]}


def service(path: Path) -> Service:
    """Read the configuration, and load its artifact."""
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    return Service(
        router=Router.load(settings["artifact"]),
        endpoints={tier: Endpoint(**settings[tier]) for tier in ("cheap", "frontier")},
        documents=Path(settings["documents"]) if "documents" in settings else None,
        gate=settings["gate"],
        log=Path(settings["log"]),
        decisions=DecisionLog(Path(settings["decisions"])) if "decisions" in settings else None,
    )


def summary(states: Sequence[State], frontier: Endpoint) -> str:
    """Return the reliability of each step and of the chain, and the cost per query."""
    steps = [step for state in states for step in state["steps"]]
    product, lines = 1.0, []
    for name in STEPS:
        held = [ok for step, ok in steps if step == name]
        if held:
            share = sum(held) / len(held)
            product *= share
            lines.append(f"{name:<10}{sum(held):>4} of {len(held):<4}{share:.3f}")
    through = sum(all(ok for _, ok in state["steps"]) for state in states) / len(states)
    lines.append(f"end to end, the product of the steps: {product:.3f}; counted: {through:.3f}")
    cost = sum(state["cost"] for state in states)
    always = sum(frontier.cost(Answer(**state["draft"])) for state in states)
    saved = f"; {1 - cost / always:.0%} below always-frontier at the same tokens" if always else ""
    return "\n".join([*lines, f"cost per query: ${cost / len(states):.8f}{saved}"])


def _messages(state: State) -> list[dict[str, str]]:
    query = {"role": "user", "content": state["query"]}
    if not state.get("passage"):
        return [query]
    return [{"role": "system", "content": f"Answer from this: {state['passage']}"}, query]


def _best_of(passages: Sequence[str], query: str) -> str:
    """Return the passage that shares the most words with the query; empty if too few are shared."""
    wanted = _words(query)
    shared, best = max((len(wanted & _words(passage)), passage) for passage in ["", *passages])
    return best if shared >= SHARED_WORDS else ""


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d_]+", text.lower()) if len(word) > 3}


def main() -> None:
    """Route the queries of the command line, and print the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("queries", nargs="+")
    given = parser.parse_args()
    running = service(given.config)
    graph, states = running.graph(), []
    for query in given.queries:
        thread = {"configurable": {"thread_id": uuid.uuid4().hex}}
        state = graph.invoke({"query": query}, thread)
        waits = "waits for a person" if "__interrupt__" in state else "answered"
        print(f"{state['answered_by']}\t{state['decision']['reason']}\t{waits}\t{state['reply']}")
        states.append(state)
    print(summary(states, running.endpoints["frontier"]))


if __name__ == "__main__":
    main()
