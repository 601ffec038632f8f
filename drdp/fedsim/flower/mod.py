"""What a client does to its update before it leaves: clip, add a share of noise.

>>> from flwr.clientapp import ClientApp
>>> app = ClientApp()
>>> @app.train(mods=[private_mod])
... def train(msg, context):
...     ...
"""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from drdp.errors import DrdpError, InvalidArgumentError
from drdp.fedsim.flower.records import (
    SETTINGS,
    Arrays,
    Settings,
    changed,
    record,
    trained,
)
from drdp.mechanisms.arrays import opened
from drdp.mechanisms.clipping import clip_l2
from drdp.mechanisms.noise import SecureNoise
from drdp.mechanisms.noised import with_noise

__all__ = ["private_mod"]


def private_mod(
    msg: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Clip what a client changed, over all arrays at once, and send only that.

    It works on the messages of a training round that `PrivateStrategy` sends,
    and takes the clip norm, and the noise share if there is one, from them.  Put
    it first among the mods, so that it is the last to touch the reply.

    Guarantees:
        The reply holds the update, whose L2 norm over all arrays is at most the
        clip norm (before its share of noise), and the weight 1; every other
        record of the client's reply, its metrics included, stays at the client.
        Entries that are not finite count as 0.  Without settings from the server
        nothing leaves but an error.
    """
    if msg.metadata.message_type.split(".", 1)[0] != "train":
        return call_next(msg, context)
    try:
        settings = Settings.told(msg.content)
        if settings is None:
            raise InvalidArgumentError(
                "the message must have the settings of a PrivateStrategy; wrap the"
                " server's strategy in one"
            )
        (sent,) = _only(msg, "the message").values()
        before = trained(sent)
    except DrdpError as error:
        return _refusal(msg, str(error))
    reply = call_next(msg, context)
    if reply.has_error():
        return reply
    try:
        return _private(msg, reply, settings, before)
    except DrdpError as error:
        return _refusal(msg, str(error))


def _private(
    msg: Message, reply: Message, settings: Settings, before: Arrays
) -> Message:
    ((key, after),) = _only(reply, "the reply").items()
    update = changed(before, after)
    if update is None:
        raise InvalidArgumentError(
            "the reply must hold every trained array of the message in its shape:"
            f" {list(before)!r:.120}"
        )
    bounded = clip_l2(update, settings.clip_norm).value
    if settings.noise_std > 0.0:
        scales = [settings.noise_std] * len(bounded)
        bounded = with_noise(opened(bounded), scales, SecureNoise().normal)
    weight = MetricRecord({settings.weight_key: 1})
    content = RecordDict(
        {key: record(bounded), "metrics": weight, SETTINGS: settings.record()}
    )
    return Message(content, reply_to=msg)


def _only(message: Message, what: str) -> dict[str, ArrayRecord]:
    found = dict(message.content.array_records)
    if len(found) != 1:
        raise InvalidArgumentError(
            f"{what} must hold exactly one ArrayRecord, got {len(found)}"
        )
    return found


def _refusal(msg: Message, reason: str) -> Message:
    error = Error(
        code=ErrorCode.MOD_FAILED_PRECONDITION, reason=f"private_mod: {reason}"
    )
    return Message(error, reply_to=msg)
