"""Private federated learning with Flower: 40 nodes, Poisson sampling, a ledger.

Each node holds a few points of a noisy line in the plane; together they learn
the line.  The grid is one in this process, so that the example needs neither
Ray nor a superlink: `server` and `app` are what `flwr run` takes as well.

Run ``python examples/flower_app.py``.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import NeighboringRelation, PrivacyConfig, SamplingMethod
from flwr.serverapp.strategy import FedAvg

from drdp import Gaussian, PoissonSampled, noise_multiplier_for
from drdp.fedsim.flower import InProcessGrid, PrivateStrategy, private_mod
from drdp.privacy.adapters.flower import PldAccountant
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger

NODES, EXPECTED, ROUNDS = 40, 20, 30
EPSILON, DELTA = 8.0, 1e-3
TRUTH = np.array([0.8, -0.5, 0.3])  # two slopes and an intercept

app = ClientApp()


@app.train(mods=[private_mod])
def train(msg, context):
    """A few steps of gradient descent on the node's own points."""
    node = context.node_config["partition-id"]
    rng = np.random.default_rng(node)
    x = np.column_stack([rng.normal(size=(30, 2)), np.ones(30)])
    y = x @ TRUTH + 0.1 * rng.normal(size=30)
    w = msg.content["arrays"]["w"].numpy().copy()
    for _ in range(5):
        w -= 0.1 * x.T @ (x @ w - y) / len(y)
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(w)}),
            # The mod keeps this at the node and sends the weight 1.
            "metrics": MetricRecord({"num-examples": len(y)}),
        }
    )
    return Message(content, reply_to=msg)


def server(grid, ledger, noise_multiplier):
    """Train until the rounds are over or the budget is spent."""
    config = PrivacyConfig(
        target_delta=DELTA,
        population_size=NODES,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
        sampling_method=SamplingMethod.POISSON,
        max_epsilon=EPSILON,
    )
    strategy = PrivateStrategy(
        FedAvg(fraction_evaluate=0.0),
        accountant=PldAccountant(config, ledger=ledger, run="line"),
        noise_multiplier=noise_multiplier,
        clip_norm=0.5,
        sample_size=EXPECTED,
    )
    initial = ArrayRecord({"w": Array(np.zeros(3))})
    # More rounds than the budget holds: training ends in order before that.
    result = strategy.start(grid, initial, num_rounds=ROUNDS + 5)
    return result, strategy.accountant.get_privacy_spent()


def main():
    """Calibrate, train, and say what it cost."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    noise = noise_multiplier_for(EPSILON, DELTA, EXPECTED / NODES, ROUNDS)
    plan = PoissonSampled(EXPECTED / NODES, Gaussian(noise))
    path = Path(tempfile.mkdtemp()) / "ledger.db"
    with Ledger.create(path, budget=FixedBudget(EPSILON, DELTA, plan)) as ledger:
        result, spent = server(InProcessGrid(app, NODES), ledger, noise)
        left = ledger.remaining(plan)
    found = result.arrays["w"].numpy()
    print(f"noise multiplier   {noise:.4f}")
    print(f"released models    {spent.num_releases}, {left} more in the ledger")
    print(f"certified          epsilon {spent.epsilon:.4f} at delta {spent.delta:g}")
    print(f"learned            {found.round(2)}, the truth is {TRUTH}")


if __name__ == "__main__":
    main()
