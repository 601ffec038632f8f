"""A run in Flower's own simulation, with Ray: what test_flower_simulation.py starts.

It writes what it found to the file named on the command line.
"""

import json
import sys

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import (
    NeighboringRelation,
    PrivacyConfig,
    SamplingMethod,
    ServerApp,
)
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from drdp.fedsim.flower import PrivateStrategy, private_mod
from drdp.privacy.adapters.flower import PldAccountant
from drdp.privacy.ledger import Ledger

NODES, EXPECTED, ROUNDS = 24, 8, 6
TRUTH = np.array([1.0, -1.0])

app = ClientApp()


@app.train(mods=[private_mod])
def train(msg, context):
    """Five steps of gradient descent on 40 points of one node."""
    rng = np.random.default_rng(int(context.node_config["partition-id"]))
    x = rng.normal(size=(40, 2))
    y = x @ TRUTH + 0.05 * rng.normal(size=40)
    w = msg.content["arrays"]["w"].numpy().copy()
    for _ in range(5):
        w -= 0.2 * x.T @ (x @ w - y) / len(y)
    arrays = ArrayRecord({"w": Array(w), "steps": Array(np.array(5))})
    metrics = MetricRecord({"num-examples": 40, "loss": 0.1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)


server = ServerApp()


@server.main()
def main(grid, context):
    """Train, and write down what was charged and learned."""
    config = PrivacyConfig(
        target_delta=1e-3,
        population_size=NODES,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
        sampling_method=SamplingMethod.POISSON,
        max_epsilon=50.0,
    )
    with Ledger.create(sys.argv[1] + ".db") as ledger:
        accountant = PldAccountant(config, ledger=ledger, run="simulation")
        strategy = PrivateStrategy(
            FedAvg(fraction_evaluate=0.0, min_available_nodes=NODES),
            accountant=accountant,
            noise_multiplier=0.8,
            clip_norm=0.6,
            sample_size=EXPECTED,
        )
        drawn = []
        aggregate = strategy.aggregate_train

        def watched(server_round, replies):
            found = aggregate(server_round, replies)
            drawn.append((strategy.last_round.drawn, strategy.last_round.contributed))
            return found

        strategy.aggregate_train = watched
        initial = ArrayRecord({"w": Array(np.zeros(2)), "steps": Array(np.array(0))})
        result = strategy.start(grid, initial, num_rounds=ROUNDS)
        found = {
            "w": result.arrays["w"].numpy().tolist(),
            "steps": int(result.arrays["steps"].numpy()),
            "metrics": {k: dict(v) for k, v in result.train_metrics_clientapp.items()},
            "drawn": drawn,
            "spent": repr(ledger.spent),
            "state": accountant.state_dict(),
        }
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=NODES,
        backend_config={"client_resources": {"num_cpus": 1}},
    )
