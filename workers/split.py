"""Split learning: a model trained on data that stays where it is. A clinic has measurements of tumours, a registry
knows which of them were malignant; neither shows the other, or whoever drives the training, what it has.

`deploy/jobs/split.toml` puts them on two workers. What crosses is what the clinic's layers make of the measurements,
and its gradient (Gupta & Raskar 2018, "Distributed learning of deep neural network over multiple agents"); the methods
that return data are private, so that nobody elsewhere gets it. Which cases make up a batch both derive from the step,
as the cases have the same numbers here and there.

The measurements are scikit-learn's breast cancer data: 569 cases, 30 numbers each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import distgrad as dg

try:
    from sklearn.datasets import load_breast_cancer
except ImportError as error:
    raise ImportError('the measurements come with scikit-learn: pip install "distgrad[examples]"') from error


class Cases:
    """Numbers of cases: four fifths to train on, the rest to test with.

    Arguments:
        count: of all cases.
        batch: cases in a batch.
        seed: decides which are held out, and the order of the others.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.test, self.train = np.split(np.random.default_rng(seed).permutation(count), [count // 5])
        self.size, self.seed = batch, seed

    def chosen(self, step: int, number: int, count: int) -> np.ndarray:
        """The cases of microbatch `number` of `count` of a step."""
        batch = np.random.default_rng([self.seed, step]).choice(self.train, self.size, replace=False)
        return np.array_split(batch, count)[number]


class Clinic(dg.Shard):
    """Measurements, and the layers that read them.

    Arguments:
        batch, seed: see `Cases`; the registry's are the same.
        outputs: numbers that leave the clinic for each case.
    """

    def __init__(self, batch: int, outputs: int, seed: int = 0) -> None:
        measured, _ = load_breast_cancer(return_X_y=True)
        self.cases = Cases(len(measured), batch, seed)
        train = measured[self.cases.train]
        self.measured = ((measured - train.mean(axis=0)) / train.std(axis=0)).astype(np.float32)
        self.network = dg.nn.Sequential(
            dg.nn.Linear(measured.shape[1], 16), dg.nn.ReLU(), dg.nn.Linear(16, outputs), dg.nn.Tanh()
        )

    @dg.remote(private=True)
    def measurements(self, step: int, number: int, count: int) -> Any:
        """Of a microbatch's cases, (cases, 30)."""
        return self.measured[self.cases.chosen(step, number, count)]

    @dg.remote(private=True)
    def held_out(self) -> Any:
        """Measurements that are never trained on, (113, 30)."""
        return self.measured[self.cases.test]

    @dg.remote
    def forward(self, measured: Any) -> Any:
        """measured (cases, 30) -> (cases, outputs)."""
        return self.network(measured)


class Registry(dg.Shard):
    """Diagnoses, and the layer that tells them from what the clinic sends.

    Arguments:
        batch, seed: see `Cases`; the clinic's are the same.
        inputs: numbers that come for each case.
    """

    def __init__(self, batch: int, inputs: int, seed: int = 0) -> None:
        _, self.known = load_breast_cancer(return_X_y=True)
        self.cases = Cases(len(self.known), batch, seed)
        self.linear = dg.nn.Linear(inputs, 2)

    @dg.remote(private=True)
    def diagnoses(self, step: int, number: int, count: int) -> Any:
        """Of a microbatch's cases, (cases,): 0 for malignant, 1 for benign."""
        return self.known[self.cases.chosen(step, number, count)]

    @dg.remote(private=True)
    def held_out(self) -> Any:
        """Diagnoses that are never trained on, (113,)."""
        return self.known[self.cases.test]

    @dg.remote
    def loss(self, x: Any, diagnoses: Any) -> Any:
        """Mean cross-entropy of x (cases, inputs) and diagnoses (cases,)."""
        return dg.ops.cross_entropy(self.linear(x), diagnoses)

    @dg.remote
    def right(self, x: Any, diagnoses: Any) -> Any:
        """The share of the cases whose diagnosis is the likelier one."""
        likelier = dg.ops.argmax(self.linear(x), axis=-1)
        return np.mean(np.asarray(likelier.data) == np.asarray(diagnoses.data))
