"""Events to JSON and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.errors import CodecError, DrdpError
from drdp.privacy import codec
from drdp.privacy.events import (
    Adjacency,
    ApproxDP,
    Composed,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    Repeated,
    atoms,
)
from drdp.privacy.outside import DensityPair, DominatingPair
from drdp.privacy.releases import (
    DiscreteGaussian,
    MixtureOfGaussians,
    RandomisedResponse,
    Skellam,
    ZeroConcentrated,
)
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)
from tests.privacy.strategies import events

G = {"kind": "gaussian", "noise_multiplier": 1.0}


def document(**body: object) -> dict[str, object]:
    return {"drdp_event": 1, **body}


@given(events(leaves=20))
def test_every_event_survives_the_round_trip(event):
    text = codec.dumps(event)
    back = codec.loads(text)
    assert back == event
    assert atoms(back) == atoms(event)
    assert codec.dumps(back) == text
    assert codec.loads(text.encode()) == event
    assert codec.from_dict(codec.to_dict(event)) == event


@given(events(), events())
def test_text_is_equal_exactly_where_events_are(left, right):
    assert (codec.dumps(left) == codec.dumps(right)) == (left == right)


def test_minus_zero_is_written_as_zero():
    """They compare equal, so their text must."""
    assert codec.dumps(Gaussian(-0.0)) == codec.dumps(Gaussian(0.0))


@pytest.mark.parametrize("depth", [1, 50, 90])
def test_a_deep_event_survives(depth):
    event: Event = Gaussian(1.0)
    for level in range(depth):
        event = Repeated(event, 1) if level % 2 else Composed((event, Laplace(2.0)))
    assert codec.loads(codec.dumps(event)) == event


def test_an_absurdly_deep_event_is_refused_both_ways():
    event: Event = Gaussian(1.0)
    body: dict[str, object] = dict(G)
    for _ in range(400):
        event = Repeated(event, 1)
        body = {"kind": "repeated", "event": body, "count": 1}
    with pytest.raises(CodecError, match="deep"):
        codec.dumps(event)
    with pytest.raises(CodecError, match="deep"):
        codec.from_dict(document(**body))
    with pytest.raises(CodecError):
        codec.loads("[" * 100_000)


# What version 1 looks like; these documents must be readable for ever.
WRITTEN = [
    (Gaussian(1.5), '{"drdp_event": 1, "kind": "gaussian", "noise_multiplier": 1.5}'),
    (Laplace(2.0), '{"drdp_event": 1, "kind": "laplace", "noise_multiplier": 2.0}'),
    (
        ApproxDP(1.0, 1e-6),
        '{"delta": 1e-06, "drdp_event": 1, "epsilon": 1.0, "kind": "approx-dp"}',
    ),
    (NonPrivate(), '{"drdp_event": 1, "kind": "non-private"}'),
    (Composed(), '{"drdp_event": 1, "events": [], "kind": "composed"}'),
    (
        PoissonSampled(0.05, Gaussian(1.0), Adjacency.ZERO_OUT) * 20,
        (
            '{"count": 20, "drdp_event": 1, "event": {"adjacency": "zero-out", "event":'
            ' {"kind": "gaussian", "noise_multiplier": 1.0}, "kind": "poisson-sampled",'
            ' "rate": 0.05}, "kind": "repeated"}'
        ),
    ),
    (
        DiscreteGaussian(2.0, 3.0),
        (
            '{"dimension": 1, "drdp_event": 1, "kind": "discrete-gaussian",'
            ' "noise_multiplier": 2.0, "sensitivity": 3.0}'
        ),
    ),
    (
        Skellam(4.0, 2.0, 9),
        (
            '{"dimension": 9, "drdp_event": 1, "kind": "skellam",'
            ' "l1_sensitivity": 4.0, "sensitivity": 2.0, "variance": 4.0}'
        ),
    ),
    (
        ZeroConcentrated(0.5),
        '{"drdp_event": 1, "kind": "zero-concentrated", "rho": 0.5}',
    ),
    (
        RandomisedResponse(1.0, 3),
        (
            '{"categories": 3, "drdp_event": 1, "epsilon": 1.0,'
            ' "kind": "randomised-response"}'
        ),
    ),
    (
        MixtureOfGaussians([0.0, 2.0], [0.75, 0.25], 1.5),
        (
            '{"adjacency": "add-remove", "drdp_event": 1, "kind":'
            ' "mixture-of-gaussians", "noise_multiplier": 1.5, "probabilities":'
            ' [0.75, 0.25], "sensitivities": [0.0, 2.0]}'
        ),
    ),
    (
        DominatingPair([0.5, 0.5], [0.25, 0.75]),
        (
            '{"adjacency": null, "drdp_event": 1, "kind": "dominating-pair",'
            ' "p": [0.5, 0.5], "q": [0.25, 0.75]}'
        ),
    ),
    (
        DominatingPair([1.0], [1.0], "replace-one"),
        (
            '{"adjacency": "replace-one", "drdp_event": 1, "kind": "dominating-pair",'
            ' "p": [1.0], "q": [1.0]}'
        ),
    ),
    (
        FixedSizeSampled(5, 100, Gaussian(1.0)),
        (
            '{"drdp_event": 1, "event": {"kind": "gaussian", "noise_multiplier": 1.0},'
            ' "kind": "fixed-size-sampled", "population": 100, "sample_size": 5}'
        ),
    ),
    (
        FixedSizeZeroOut(5, 100, Gaussian(1.0)),
        (
            '{"drdp_event": 1, "event": {"kind": "gaussian", "noise_multiplier": 1.0},'
            ' "kind": "fixed-size-zero-out", "population": 100, "sample_size": 5}'
        ),
    ),
    (
        RandomlyAllocated(20, Gaussian(1.0)),
        (
            '{"adjacency": "add-remove", "drdp_event": 1, "event": {"kind": "gaussian",'
            ' "noise_multiplier": 1.0}, "kind": "randomly-allocated",'
            ' "participations": 1, "rounds": 20}'
        ),
    ),
    (
        TruncatedPoissonSampled(0.05, 100, 20, Gaussian(1.0)),
        (
            '{"adjacency": "add-remove", "drdp_event": 1, "event": {"kind": "gaussian",'
            ' "noise_multiplier": 1.0}, "kind": "truncated-poisson-sampled",'
            ' "max_batch": 20, "population": 100, "rate": 0.05}'
        ),
    ),
    (
        Shuffled(20, Gaussian(1.0)),
        (
            '{"adjacency": "zero-out", "drdp_event": 1, "event": {"kind": "gaussian",'
            ' "noise_multiplier": 1.0}, "kind": "shuffled", "rounds": 20}'
        ),
    ),
    (
        Scheduled(4, Gaussian(1.0), Adjacency.REPLACE_ONE),
        (
            '{"adjacency": "replace-one", "drdp_event": 1, "event": {"kind":'
            ' "gaussian", "noise_multiplier": 1.0}, "kind": "scheduled",'
            ' "participations": 4}'
        ),
    ),
]


def test_an_event_made_of_functions_has_no_document():
    event = DensityPair(lambda x: -x * x, lambda x: -x * x, (0.0, 1.0))
    with pytest.raises(CodecError, match="DensityPair: only events made of numbers"):
        codec.dumps(Gaussian(1.0) + event)


@pytest.mark.parametrize(("event", "text"), WRITTEN)
def test_the_written_form_is_fixed(event, text):
    assert codec.dumps(event) == text
    assert codec.loads(text) == event


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        b"\xff\xfe",
        "null",
        "3",
        '"gaussian"',
        "[]",
        "{}",
        '{"drdp_event": 1}',
        '{"drdp_event": 1, "kind": "gaussian", "noise_multiplier": NaN}',
        '{"drdp_event": 1, "kind": "gaussian", "noise_multiplier": Infinity}',
        '{"drdp_event": 1, "kind": "gaussian", "noise_multiplier": 1e999}',
        '{"drdp_event": 1, "kind": "gaussian", "noise_multiplier": ' + "9" * 5000 + "}",
        (
            '{"drdp_event": 1, "kind": "gaussian", "noise_multiplier": 9,'
            ' "noise_multiplier": 1}'
        ),
    ],
)
def test_text_that_is_no_event_is_refused(text):
    with pytest.raises(CodecError):
        codec.loads(text)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "gaussian",
        3,
        {},
        G,
        {"drdp_event": 0, **G},
        {"drdp_event": 2, **G},
        {"drdp_event": "1", **G},
        {"drdp_event": True, **G},
        {"drdp_event": None, **G},
        document(),
        document(kind="skellam"),
        document(kind=None),
        document(kind=["gaussian"]),
        document(kind={}),
        document(kind="Gaussian", noise_multiplier=1.0),
        document(kind="gaussian"),
        document(kind="gaussian", noise_multiplier=-1.0),
        document(kind="gaussian", noise_multiplier="1"),
        document(kind="gaussian", noise_multiplier=None),
        document(kind="gaussian", noise_multiplier=True),
        document(kind="gaussian", noise_multiplier=[1.0]),
        document(kind="gaussian", noise_multiplier=G),
        document(kind="gaussian", noise_multiplier={}),
        document(kind="gaussian", noise_multiplier=1.0, extra=1),
        document(kind="non-private", noise_multiplier=1.0),
        document(kind="approx-dp", epsilon=1.0),
        document(kind="approx-dp", epsilon=1.0, delta=2.0),
        document(kind="repeated", event=G, count=-1),
        document(kind="repeated", event=G, count=1.5),
        document(kind="repeated", event=G, count=True),
        document(kind="repeated", event=G, count="2"),
        document(kind="repeated", event=G),
        document(kind="repeated", event=None, count=2),
        document(kind="repeated", event=[G], count=2),
        document(kind="repeated", event={**G, "drdp_event": 1}, count=2),
        document(kind="composed", events=G),
        document(kind="composed", events=[1]),
        document(kind="composed", events=["gaussian"]),
        document(kind="composed", events=[[G]]),
        document(kind="composed", events="ab"),
        document(kind="composed", events=5),
        document(kind="poisson-sampled", rate=2.0, event=G, adjacency="add-remove"),
        document(kind="poisson-sampled", rate=0.1, event=G, adjacency="other"),
        document(kind="poisson-sampled", rate=0.1, event=G, adjacency=[]),
        document(kind="poisson-sampled", rate=0.1, event=G),
        document(kind="fixed-size-sampled", sample_size=3, population=2, event=G),
        document(kind="fixed-size-sampled", sample_size=1, population=0, event=G),
        document(
            kind="fixed-size-sampled",
            sample_size=1,
            population=9,
            event=G,
            adjacency="zero-out",
        ),
        document(kind="randomly-allocated", rounds=3, event=G, adjacency="add-remove"),
        document(kind="shuffled", rounds=3, event=G, adjacency="add-remove"),
        document(kind="scheduled", participations=1.5, event=G, adjacency="zero-out"),
    ],
)
def test_a_malformed_document_is_refused(body):
    with pytest.raises(CodecError):
        codec.from_dict(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(events(), st.data())
def test_a_damaged_document_is_an_event_or_a_codec_error(event, data):
    body = codec.to_dict(event)
    place = data.draw(st.sampled_from(_places(body)))
    value = data.draw(json_values)
    spot = body
    for key in place[:-1]:
        spot = spot[key]
    spot[place[-1]] = value
    try:
        back = codec.loads(json.dumps(body))
    except CodecError:
        return
    assert isinstance(back, Event)


def _places(body: object, path: tuple = ()) -> list[tuple]:
    if isinstance(body, dict):
        inner = body.items()
    elif isinstance(body, list):
        inner = enumerate(body)
    else:
        return [path]
    found = [path] if path else []
    for key, value in inner:
        found += _places(value, (*path, key))
    return found


@pytest.mark.parametrize("value", [Event(), 3, None, "gaussian", {"kind": "gaussian"}])
def test_only_known_events_are_written(value):
    with pytest.raises(DrdpError):
        codec.to_dict(value)


def test_documents_hold_plain_json_values():
    event = FixedSizeSampled(5, 100, Gaussian(1.0)) * 3
    assert json.loads(json.dumps(codec.to_dict(event))) == codec.to_dict(event)
