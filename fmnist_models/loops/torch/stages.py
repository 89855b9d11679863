"""Cuts the graph of a step's gradients, so that the first of them are known early.

`DistributedDataParallel` adds up gradients in buckets, and a bucket is sent while the next one is
computed. A graph gives all of its results at its end, so there is one for each bucket.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from fmnist_models.loops.torch.tracing import is_pure

# Bytes of the first bucket and of the others, as in PyTorch. The first one is small, so that its
# sending begins early.
FIRST_BYTES = 2**20
BYTES = 25 * 2**20


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a graph.

    Attributes:
        module: takes what is `needed`, and returns its gradients and then what is `left`.
        needed: arguments of the whole graph, or results of earlier stages, by name.
        left: results that later stages need, by name.
        gradients: the numbers of its gradients.
    """

    module: fx.GraphModule
    needed: tuple[str, ...]
    left: tuple[str, ...]
    gradients: tuple[int, ...]


def buckets_of(sizes: Sequence[int]) -> list[list[int]]:
    """The numbers of gradients of so many bytes, in buckets; the last gradients come first."""
    found: list[list[int]] = [[]]
    room = FIRST_BYTES
    for number in reversed(range(len(sizes))):
        if found[-1] and room < sizes[number]:
            found.append([])
            room = BYTES
        found[-1].append(number)
        room -= sizes[number]
    return found


def arguments_of(whole: fx.GraphModule) -> list[str]:
    """The names of a graph's arguments, lists among them flattened."""
    return [node.name for node in whole.graph.nodes if node.op == "placeholder"]


def stages_of(whole: fx.GraphModule, buckets: Sequence[Sequence[int]]) -> list[Stage]:
    """The graph in stages, each of which ends with the gradients of a bucket.

    What changes a tensor, reads one that is changed, or draws random numbers is in the first
    stage, in its order.

    Args:
        whole: a graph that returns gradients.
        buckets: their numbers.
    """
    *nodes, output = whole.graph.nodes
    results: list[fx.Node] = []
    fx.map_arg(output.args, results.append)
    places = _places(nodes, results, buckets)
    stages = []
    for number, bucket in enumerate(buckets):
        own = [node for node in nodes if places.get(node) == number]
        later = {n for node in nodes if places.get(node, 0) > number for n in node.all_input_nodes}
        later |= {results[n] for other in buckets[number + 1 :] for n in other}
        left = [node for node in own if node in later]
        stages.append(_stage(whole, own, [results[n] for n in bucket], left, tuple(bucket)))
    return stages


def _places(
    nodes: Sequence[fx.Node], results: Sequence[fx.Node], buckets: Sequence[Sequence[int]]
) -> dict[fx.Node, int]:
    """The stage of each node that computes something: as late as its users allow."""
    last = len(buckets) - 1
    wanted = {results[n]: number for number in range(last, -1, -1) for n in buckets[number]}
    changed, owners = _changed(nodes)
    places: dict[fx.Node, int] = {}
    for node in reversed(nodes):
        if node.op == "call_function":
            read = {owners.get(source, source) for source in node.all_input_nodes}
            stays = not (_is_part(node) or is_pure(node.target)) or bool(read & changed)
            users = [places[user] for user in node.users if user in places]
            places[node] = 0 if stays else min([wanted.get(node, last), *users])
    for node in filter(_is_part, nodes):
        places[node] = places[node.all_input_nodes[0]]
    return places


def _changed(nodes: Sequence[fx.Node]) -> tuple[set[fx.Node], dict[fx.Node, fx.Node]]:
    """The nodes whose memory is changed; and for each view, the node whose memory it has."""
    owners: dict[fx.Node, fx.Node] = {}
    changed: set[fx.Node] = set()
    for node in nodes:
        if _is_part(node):
            source = node.all_input_nodes[0]
            owners[node] = owners.get(source, source)
        schema = getattr(node.target, "_schema", None)
        arguments = () if schema is None else schema.arguments
        named = [(x, node.kwargs[x.name]) for x in arguments if x.name in node.kwargs]
        for argument, given in [*zip(arguments, node.args, strict=False), *named]:
            shared: list[fx.Node] = []
            if argument.alias_info is not None:
                fx.map_arg(given, shared.append)
            for source in shared:
                owners[node] = owners.get(source, source)
                if argument.alias_info.is_write:
                    changed.add(owners[node])
    return changed, owners


def _is_part(node: fx.Node) -> bool:
    """Whether it is one of several results."""
    return node.target is operator.getitem


def _stage(
    whole: fx.GraphModule,
    own: Sequence[fx.Node],
    gradients: Sequence[fx.Node],
    left: Sequence[fx.Node],
    bucket: tuple[int, ...],
) -> Stage:
    """The nodes as a graph of their own."""
    graph = fx.Graph()
    outside = {node for node in [*own, *gradients] for node in (node, *node.all_input_nodes)}
    here = set(own)
    # In the order of the whole, which does not depend on how sets are walked.
    given = [node for node in whole.graph.nodes if node in outside and node not in here]
    copies: dict[fx.Node, fx.Node] = {}
    needed = [node for node in given if node.op != "get_attr"]
    for node in needed:
        copies[node] = graph.placeholder(node.name)
    for node in [*(n for n in given if n.op == "get_attr"), *own]:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in [*gradients, *left]])
    names = tuple(node.name for node in needed), tuple(node.name for node in left)
    return Stage(fx.GraphModule(whole, graph), *names, bucket)
